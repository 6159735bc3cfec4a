/**
 * Runs in a process of its own: `worker.ts <root> <reference>` unpacks an image and writes, as JSON, how many
 * layers it has unpacked itself, and what went wrong.
 */
import { readAll } from '../../../src/content/verify.ts'
import { OciError } from '../../../src/errors.ts'
import { parseImageConfig, parseManifest } from '../../../src/image/index.ts'
import { openStore } from '../../../src/store/index.ts'

const [root = '', reference = ''] = process.argv.slice(2)
const result: { started: number; skipped: number; layers?: readonly string[]; code?: string; errno?: string } = {
  started: 0,
  skipped: 0,
}
try {
  const store = await openStore({ root, durability: 'none' })
  const manifest = parseManifest(await readAll(store, await store.resolve(reference), 2 ** 20)).value
  const config = parseImageConfig(await readAll(store, manifest.config, 2 ** 20)).value
  process.stdout.write('ready\n')
  const unpacked = await store.unpack(manifest, config, {
    onProgress({ kind }) {
      if (kind === 'started' || kind === 'skipped') result[kind] += 1
    },
  })
  result.layers = unpacked.layers
} catch (error) {
  if (!(error instanceof OciError)) throw error
  result.code = error.code
  if ('errnoName' in error) result.errno = String(error.errnoName)
}
process.stdout.write(`${JSON.stringify(result)}\n`)
