import { describe, expect, it } from 'vitest'
import { cannotRunAsRoot } from './support/busybox.ts'
import { killRounds, seedOfRun } from './support/kill-rounds.ts'

describe.skipIf(cannotRunAsRoot)(`a process that pulls and runs (${cannotRunAsRoot ?? 'real ones'})`, () => {
  it('may be killed at any moment: the next one works, and nothing is left', { timeout: 300_000 }, async () => {
    const moments = await killRounds(25, seedOfRun())
    // Otherwise the moments were not random enough to prove anything.
    expect(Object.keys(moments).length).toBeGreaterThanOrEqual(3)
  })
})
