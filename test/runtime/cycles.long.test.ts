import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { expectNoGrowth, runCycles } from './cycles.ts'
import { cannotRun, Sandbox } from './support.ts'

/** Another one shows other orders: OCI_TS_SEED. */
const seed = Number(process.env.OCI_TS_SEED ?? 1)

describe.skipIf(cannotRun)(`ten thousand containers in one process, seed ${seed} (${cannotRun ?? 'real ones'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterAll(() => sandbox.remove())

  it('leave nothing: no memory, descriptor, cgroup, mount, process, state', { timeout: 1_800_000 }, async () => {
    const held = await runCycles(sandbox, 10_000, seed)
    await sandbox.expectNothingLeft()
    console.log(held.map(({ memory, ...others }) => ({ MB: Math.round(memory / 2 ** 20), ...others })))
    expect(held.length).toBe(5)
    expectNoGrowth(held)
  })
})
