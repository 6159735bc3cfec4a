/**
 * Attaches a file, such as an SBOM, to an image of a registry, and lists what is attached. The image stays as
 * it is: the file becomes an artifact that refers to it.
 *
 *     npx tsx examples/sbom.ts attach registry.example.com/app:1 sbom.spdx.json application/spdx+json
 *     npx tsx examples/sbom.ts list registry.example.com/app:1
 */
import { readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { openRepository } from 'oci-ts/distribution'
import { descriptorOf, mediaType, parseReference } from 'oci-ts/image'

const [verb, name = '', file = '', type = 'application/spdx+json'] = process.argv.slice(2)
const repository = openRepository(name)
const { tag = 'latest', digest } = parseReference(name)
const image = await repository.resolve(digest ?? tag)

if (verb === 'attach') {
  const bytes = await readFile(file)
  const layer = descriptorOf(type, bytes, { annotations: { 'org.opencontainers.image.title': basename(file) } })
  const empty = new TextEncoder().encode('{}')
  const config = descriptorOf(mediaType.emptyJson, empty)
  await repository.push(layer, bytes)
  await repository.push(config, empty)
  const manifest = new TextEncoder().encode(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaType.ociManifest,
      artifactType: type,
      config,
      layers: [layer],
      subject: image,
      annotations: { 'org.opencontainers.image.created': new Date().toISOString() },
    }),
  )
  const attached = descriptorOf(mediaType.ociManifest, manifest)
  await repository.push(attached, manifest)
  console.log(attached.digest)
} else if (verb === 'list') {
  for await (const { digest: found, artifactType, annotations } of repository.referrers(image)) {
    console.log(found, artifactType, annotations?.['org.opencontainers.image.created'] ?? '')
  }
} else {
  console.error('usage: sbom.ts attach IMAGE FILE [TYPE] | list IMAGE')
  process.exitCode = 2
}
