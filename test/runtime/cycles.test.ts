import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { expectNoGrowth, runCycles } from './cycles.ts'
import { cannotRun, Sandbox } from './support.ts'

describe.skipIf(cannotRun)(`three hundred containers in one process (${cannotRun ?? 'real ones'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterAll(() => sandbox.remove())

  it('leave nothing: no memory, descriptor, cgroup, mount, process, state', { timeout: 180_000 }, async () => {
    const held = await runCycles(sandbox, 300, 1)
    await sandbox.expectNothingLeft()
    expect(held.length).toBe(5)
    expectNoGrowth(held)
  })
})
