import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { delay } from '../../../src/internal/abort.ts'
import { openStore } from '../../../src/store/index.ts'
import { type TestEntry, tar } from '../../layer/support/tar.ts'
import { image, put } from './image.ts'
import { startWorker } from './process.ts'

const files = 150
const layers = 2

/**
 * As many times: a process unpacks an image and is killed after a random while; then the image is unpacked
 * here, and must be what it should be, with nothing lying around.
 */
export async function killRounds(root: string, rounds: number): Promise<void> {
  await openStore({ root, durability: 'none' })
  let atWork = 0
  for (let round = 0; round < rounds; round += 1) {
    const layer = (n: number): Buffer =>
      tar(...Array.from({ length: files }, (_, i): TestEntry => ({ name: `${n}/f${i}`, content: text(round, n, i) })))
    const one = image(Array.from({ length: layers }, (_, n) => layer(n)))
    await put(await openStore({ root, durability: 'none' }), one, `image-${round}`)
    const worker = startWorker(root, `image-${round}`)
    // From the first look at the store to after its end.
    if (round % 3 !== 0) await worker.ready
    await delay(Math.random() * (round % 3 === 0 ? 500 : 60))
    worker.process.kill('SIGKILL')
    if ((await worker.result) === undefined) atWork += 1
    const store = await openStore({ root, durability: 'none' })
    const unpacked = await store.unpack(one.manifest, one.config)
    expect(unpacked.layers).toHaveLength(layers)
    for (const [index, path] of unpacked.layers.entries()) {
      const n = layers - 1 - index
      expect(readdirSync(join(path, String(n)))).toHaveLength(files)
      for (let i = 0; i < files; i += 1) {
        const file = join(path, String(n), `f${i}`)
        expect(readFileSync(file, 'utf8')).toBe(text(round, n, i))
        expect(statSync(file).mtimeMs).toBe(0)
      }
    }
    expect(readdirSync(join(root, 'tmp'))).toEqual([])
  }
  // Otherwise the moments were not random enough to prove anything.
  expect(atWork).toBeGreaterThan(rounds / 3)
}

function text(round: number, layer: number, file: number): string {
  return `round ${round}, layer ${layer}, file ${file}`
}
