/**
 * Copies a set of images from one registry to another: byte by byte, all platforms, with their signatures
 * and SBOMs. What is there already is not sent again, so it can be run every night:
 *
 *     npx tsx examples/mirror.ts docker.io mirror.example.com library/alpine:3.20 library/redis:7
 */
import { copy } from 'oci-ts/content'
import { createRegistryClient } from 'oci-ts/distribution'
import { parseReference } from 'oci-ts/image'

const [from, to, ...names] = process.argv.slice(2)
if (from === undefined || to === undefined || names.length === 0) {
  console.error('usage: mirror.ts FROM TO REPOSITORY:TAG …')
  process.exit(2)
}

// One client for all: it keeps connections and tokens.
await using client = createRegistryClient()
for (const name of names) {
  const { tag = 'latest', digest } = parseReference(`${from}/${name}`)
  try {
    const source = client.repository(`${from}/${name}`)
    let sent = 0
    const copied = await copy(source, digest ?? tag, client.repository(`${to}/${name}`), {
      as: tag,
      referrers: true,
      onProgress({ totals, transferred }) {
        sent = transferred - totals.skippedBytes - totals.mountedBytes
      },
    })
    console.log(`${name}: ${copied.digest}, ${sent} bytes sent`)
  } catch (error) {
    console.error(`${name}: ${error instanceof Error ? error.message : error}`)
    process.exitCode = 1 // the others may have more luck
  }
}
