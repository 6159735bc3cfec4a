import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { cannotRun, Sandbox, specOf } from './support.ts'

describe.skipIf(cannotRun)(`two hundred containers (${cannotRun ?? 'real ones'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterAll(() => sandbox.remove())

  it('leave no process, cgroup, mount, descriptor or memory behind', { timeout: 180_000 }, async () => {
    const linux = { ...specOf([]).linux, resources: { memory: { limit: 64 << 20 }, pids: { limit: 10 } } }
    const cycle = async (): Promise<void> => {
      const container = await sandbox.create(specOf(['true'], { linux }))
      await container.start()
      expect(await container.exited).toEqual({ code: 0, signal: undefined, oomKilled: false })
      await container.delete()
    }
    for (let n = 0; n < 40; n++) await cycle()
    await sandbox.expectNothingLeft()
    const before = anonymousMemory()
    for (let n = 0; n < 20; n++) await Promise.all(Array.from({ length: 8 }, cycle))
    await sandbox.expectNothingLeft()
    // Node's heap comes and goes by more than that; a message or a stack kept per container would be 16 MB and more.
    expect(anonymousMemory() - before).toBeLessThan(60 << 20)
  })
})

function anonymousMemory(): number {
  return Number(/^Anonymous:\s+(\d+)/m.exec(readFileSync('/proc/self/smaps_rollup', 'utf8'))?.[1]) * 1024
}
