import { spawnSync } from 'node:child_process'
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { expect, it } from 'vitest'
import { appendStream } from '../../src/content/append-stream.ts'
import { temporaryDirectory } from './support.ts'

const mebibyte = 2 ** 20

it('a source that is faster than the disk is made to wait, with a few mebibytes of it in memory', async () => {
  const { path, remove } = await temporaryDirectory()
  const pipe = join(path, 'pipe')
  spawnSync('mkfifo', [pipe])
  // What is written to a pipe stays away from the disk until somebody reads.
  const file = await open(pipe, constants.O_RDWR)
  try {
    let [given, taken] = [0, 0]
    const source = new Readable({
      highWaterMark: mebibyte,
      read() {
        given++
        this.push(given <= 32 ? Buffer.alloc(mebibyte, given) : null)
      },
    })
    const done = appendStream(file, source, { onChunk: () => {}, onWritten: () => {} })
    await expect.poll(() => source.isPaused()).toBe(true)
    expect(given).toBeLessThanOrEqual(6)
    const buffer = Buffer.alloc(mebibyte)
    while (taken < 32 * mebibyte) {
      const { bytesRead } = await file.read(buffer, 0, Math.min(mebibyte, 32 * mebibyte - taken))
      for (let at = 0; at < bytesRead; at += 65_536) expect(buffer[at]).toBe(1 + Math.floor((taken + at) / mebibyte))
      taken += bytesRead
    }
    await done
    expect(given).toBe(33)
  } finally {
    await file.close()
    await remove()
  }
})
