import { readFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isRoot, Scratch } from '../support/apply.ts'
import { tar } from '../support/tar.ts'

/** Milliseconds that the main thread has been on a processor: whatever else the machine does is not in it. */
function busy(): number {
  return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'latin1').split(' ')[0]) / 1e6
}

/** The longest turn of the event loop while `work` goes on, in milliseconds of work. */
async function longestTurn(work: Promise<unknown>): Promise<number> {
  let isOver = false
  const over = work.finally(() => {
    isOver = true
  })
  let longest = 0
  for (let last = busy(); !isOver; ) {
    await new Promise(setImmediate)
    const now = busy()
    longest = Math.max(longest, now - last)
    last = now
  }
  await over
  return longest
}

describe.skipIf(!isRoot)('applying layers (skipped without root)', () => {
  let scratch: Scratch
  beforeAll(() => {
    scratch = new Scratch()
  })
  afterAll(() => scratch.clean())

  it('keeps the event loop for less than 20 ms, however many small files three layers have', async () => {
    const entries = Array.from({ length: 3000 }, (_, i) => ({ name: `d${i % 50}/f${i}`, content: `${i} `.repeat(20) }))
    const blob = gzipSync(tar(...entries))
    const turns: number[] = []
    for (let run = 0; run < 3; run += 1) {
      turns.push(await longestTurn(Promise.all([scratch.apply(blob), scratch.apply(blob), scratch.apply(blob)])))
    }
    // In the first one the code is compiled.
    expect(Math.min(...turns)).toBeLessThan(20)
  })
})
