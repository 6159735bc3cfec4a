import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { copy } from '../../src/content/copy.ts'
import { MemoryStore } from '../../src/content/memory.ts'
import { readAll } from '../../src/content/verify.ts'
import { openRepository } from '../../src/distribution/index.ts'
import { NotFoundError, RegistryError } from '../../src/errors.ts'
import { mediaType } from '../../src/image/media-type.ts'
import { type DockerRegistry, hasProgram, startDockerRegistry } from './support/docker-registry.ts'
import { content, image, randomLayer, run, temporaryDirectory, umociLayout } from './support/images.ts'

const missing = ['docker-registry', 'skopeo', 'umoci'].filter((program) => !hasProgram(program))

describe.skipIf(missing.length > 0)(`against docker-registry (needs docker-registry, skopeo, umoci)`, () => {
  let registry: DockerRegistry
  beforeAll(async () => {
    registry = await startDockerRegistry()
  })
  afterAll(async () => {
    await registry?.[Symbol.asyncDispose]()
  })

  it('pulls what skopeo has pushed from a layout of umoci, byte for byte', async () => {
    await using directory = await temporaryDirectory()
    const layout = await umociLayout(directory.path)
    await run('skopeo', ['copy', '--dest-tls-verify=false', `oci:${layout}:1`, `docker://${registry.host}/umoci/app:1`])
    const repository = openRepository(`${registry.host}/umoci/app`)
    const store = new MemoryStore()
    const root = await copy(repository, '1', store)
    const index = JSON.parse(await readFile(join(layout, 'index.json'), 'utf8'))
    expect(root.digest).toBe(index.manifests[0].digest)
    expect(root.mediaType).toBe(mediaType.ociManifest)
    const manifest = JSON.parse(new TextDecoder().decode(await readAll(store, root, root.size)))
    expect(manifest.layers).toHaveLength(2)
    for (const layer of manifest.layers) {
      const name = layer.digest.replace(':', '/')
      const bytes = await readAll(store, layer, layer.size)
      expect(Buffer.compare(bytes, await readFile(join(layout, 'blobs', name)))).toBe(0)
    }
  })

  it('pushes what skopeo pulls', async () => {
    await using directory = await temporaryDirectory()
    const layers = [randomLayer(3_000_000), randomLayer(10)]
    const { config, manifest } = image(...layers)
    const repository = openRepository(`${registry.host}/pushed/app`)
    for (const { descriptor, bytes } of [...layers, config]) {
      await repository.push(descriptor, Readable.from([bytes.subarray(0, 5), bytes.subarray(5)]))
    }
    await repository.push(manifest.descriptor, manifest.bytes)
    await repository.tag(manifest.descriptor, 'v1')
    const target = join(directory.path, 'out')
    await run('skopeo', ['copy', '--src-tls-verify=false', `docker://${registry.host}/pushed/app:v1`, `dir:${target}`])
    expect(Buffer.compare(await readFile(join(target, 'manifest.json')), manifest.bytes)).toBe(0)
  })

  it('copies from one repository of the registry to another', async () => {
    const layer = randomLayer(200_000)
    const { config, manifest } = image(layer)
    const source = openRepository(`${registry.host}/copy/from`)
    for (const { descriptor, bytes } of [layer, config, manifest]) await source.push(descriptor, bytes)
    await source.tag(manifest.descriptor, 'latest')
    const target = openRepository(`${registry.host}/copy/to`)
    const root = await copy(source, 'latest', target, { as: 'mirrored' })
    expect(await target.resolve('mirrored')).toEqual(manifest.descriptor)
    expect(root.digest).toBe(manifest.descriptor.digest)
  })

  it('resolves a digest as well as a tag', async () => {
    const { config, manifest } = image()
    const repository = openRepository(`${registry.host}/resolve/app`)
    await repository.push(config.descriptor, config.bytes)
    await repository.push(manifest.descriptor, manifest.bytes)
    expect(await repository.resolve(manifest.descriptor.digest)).toEqual(manifest.descriptor)
  })

  it('starts in the middle of a blob', async () => {
    const layer = randomLayer(100_000)
    const repository = openRepository(`${registry.host}/offset/app`)
    await repository.push(layer.descriptor, layer.bytes)
    const stream = await repository.fetch(layer.descriptor, { offset: 99_990 })
    expect(Buffer.concat(await stream.toArray())).toEqual(Buffer.from(layer.bytes.subarray(99_990)))
  })

  it('says whether the registry has something', async () => {
    const layer = randomLayer(10)
    const repository = openRepository(`${registry.host}/exists/app`)
    expect(await repository.exists(layer.descriptor)).toBe(false)
    await repository.push(layer.descriptor, layer.bytes)
    expect(await repository.exists(layer.descriptor)).toBe(true)
  })

  it('does not read a stream whose content the registry has', async () => {
    const layer = randomLayer(10)
    const repository = openRepository(`${registry.host}/skip/app`)
    await repository.push(layer.descriptor, layer.bytes)
    let read = false
    const stream = new Readable({
      read() {
        read = true
      },
    })
    await repository.push(layer.descriptor, stream)
    expect(read).toBe(false)
    expect(stream.destroyed).toBe(true)
  })

  it('names what it did not find', async () => {
    const repository = openRepository(`${registry.host}/none/app`)
    const absent = randomLayer(10)
    const failure = await repository.resolve('v1').catch((error: unknown) => error)
    expect(failure).toBeInstanceOf(NotFoundError)
    expect(failure).toMatchObject({ subject: `${registry.host}/none/app:v1` })
    expect((failure as Error).cause).toBeInstanceOf(RegistryError)
    await expect(repository.fetch(absent.descriptor)).rejects.toThrow(NotFoundError)
  })

  it('refuses to push other content than the descriptor names, and the registry keeps nothing', async () => {
    const repository = openRepository(`${registry.host}/wrong/app`)
    const layer = randomLayer(1000)
    const other = randomLayer(1000)
    const code = 'ERR_OCI_DIGEST_MISMATCH'
    await expect(repository.push(layer.descriptor, other.bytes)).rejects.toMatchObject({ code })
    await expect(repository.push(layer.descriptor, Readable.from([other.bytes]))).rejects.toMatchObject({ code })
    const short = Readable.from([layer.bytes.subarray(1)])
    await expect(repository.push(layer.descriptor, short)).rejects.toMatchObject({ code: 'ERR_OCI_SIZE_MISMATCH' })
    expect(await repository.exists(layer.descriptor)).toBe(false)
  })

  it('keeps the bytes and the type of a manifest that is not an image', async () => {
    const empty = content(mediaType.emptyJson, '{}')
    const artifact = content(
      mediaType.ociManifest,
      `{ "schemaVersion": 2, "artifactType": "text/x-note",\n "mediaType": "${mediaType.ociManifest}",` +
        ` "config": ${JSON.stringify(empty.descriptor)}, "layers": [${JSON.stringify(empty.descriptor)}] }`,
    )
    const repository = openRepository(`${registry.host}/artifact/app`)
    await repository.push(empty.descriptor, empty.bytes)
    await repository.push(artifact.descriptor, artifact.bytes)
    const again = openRepository(`${registry.host}/artifact/app`)
    expect(Buffer.from(await readAll(again, artifact.descriptor, 10_000))).toEqual(Buffer.from(artifact.bytes))
  })
})
