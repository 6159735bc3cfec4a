import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { changingCalls, crashRounds, killAtCall, makeSource } from './support/crash.ts'
import { hasTools } from './support/tools.ts'

const scratch = mkdtempSync(join(tmpdir(), 'oci-ts-crash-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

/** Of the random moments: a failure names it, and comes again with it. */
const seed = Number(process.env.OCI_TS_SEED ?? 1)

describe.skipIf(process.platform !== 'linux')('a store (skipped on anything but Linux)', () => {
  it('loses nothing when processes are killed 500 times', { timeout: 7_200_000 }, async () => {
    const directory = join(scratch, 'random')
    mkdirSync(directory)
    expect((await crashRounds(directory, 500, seed)).size).toBeGreaterThan(6)
  })

  it.skipIf(!hasTools('strace'))(
    'loses nothing at any system call that changes something (skipped without strace)',
    { timeout: 7_200_000 },
    async () => {
      const directory = join(scratch, 'calls')
      mkdirSync(directory)
      await makeSource(join(directory, 'source'))
      let killed = 0
      for (const name of changingCalls) {
        for (let count = 1; await killAtCall(directory, name, count); count += 1) killed += 1
      }
      expect(killed).toBeGreaterThan(100)
    },
  )
})
