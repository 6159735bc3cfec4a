import { describe, expect, it } from 'vitest'
import { cannotRunAsRoot } from './support/busybox.ts'
import { killRounds, seedOfRun } from './support/kill-rounds.ts'

const skipped = process.env.OCI_TS_LONG === '1' ? cannotRunAsRoot : 'takes minutes; set OCI_TS_LONG=1'

describe.skipIf(skipped)(`a process that pulls and runs (${skipped ?? 'real ones'})`, () => {
  it('may be killed 200 times at any moment', { timeout: 1_800_000 }, async () => {
    const moments = await killRounds(200, seedOfRun())
    for (const step of ['fetch', 'unpack', 'run', 'running']) expect(moments[step] ?? 0).toBeGreaterThan(2)
  })
})
