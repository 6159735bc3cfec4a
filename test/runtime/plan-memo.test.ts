import { describe, expect, it, vi } from 'vitest'
import { blank } from '../../src/linux/call.ts'
import type { Host } from '../../src/runtime/host.ts'
import type { PlanOptions } from '../../src/runtime/plan.ts'
import { planAgain } from '../../src/runtime/plan-memo.ts'
import { cannotRun, Sandbox, specOf } from './support.ts'

const files = new Map<string, string>()
const host: Host = {
  hierarchies: { v1: [], v2: { mountPoint: '/sys/fs/cgroup', controllers: [] } },
  kernel: [6, 8],
  capabilities: (1n << 41n) - 1n,
  uid: 0,
  gid: 0,
  inUserNamespace: false,
  isDirectory: () => true,
  read: (path) => (path.endsWith('cgroup.controllers') ? 'cpu memory pids\n' : files.get(path)),
  writable: () => true,
}
const spec = specOf(['true'], { linux: { ...specOf([]).linux, resources: { pids: { limit: 64 } } } })
const filter = vi.fn(() => undefined)
let keys = 0

/** Plans as often as there are ids, with everything else the same. */
function plansFor(...ids: readonly string[]) {
  const key = `test ${++keys}`
  const options = (id: string): PlanOptions => ({ id, spec, bundle: '/bundle', outlive: false, host })
  return ids.map((id) => planAgain(options(id), filter, key))
}

describe('planning the same container again', () => {
  it('gives the same plan for any id from the second time on', () => {
    const [first, second, third] = plansFor('a', 'b', 'c')
    expect(first?.cgroup.v2).toBe('/sys/fs/cgroup/oci-ts-a')
    expect(second?.cgroup.v2).toBe(`/sys/fs/cgroup/oci-ts-${blank}`)
    expect(third).toBe(second)
    expect(third?.setup).toBe(second?.setup)
  })

  it('plans anew when the host is no longer as it was', () => {
    const key = `test ${++keys}`
    const options: PlanOptions = { id: 'a', spec, bundle: '/bundle', outlive: false, host }
    planAgain(options, filter, key)
    const before = planAgain(options, filter, key)
    const without = { ...host, read: () => '' }
    expect(() => planAgain({ ...options, host: without }, filter, key)).toThrow(
      expect.objectContaining({ code: 'ERR_OCI_UNSUPPORTED' }),
    )
    expect(planAgain(options, filter, key)).not.toBe(before)
  })

  it('looks for processes in the cgroup of each id', () => {
    files.set('/sys/fs/cgroup/oci-ts-d/cgroup.procs', '1\n')
    expect(() => plansFor('b', 'c', 'd')).toThrow(expect.objectContaining({ code: 'ERR_OCI_CONFLICT' }))
  })

  it('keeps no more than a few', () => {
    const [, second] = plansFor('a', 'b')
    const key = `test ${keys}`
    for (let i = 0; i < 20; i++) plansFor('a')
    expect(planAgain({ id: 'c', spec, bundle: '/bundle', outlive: false, host }, filter, key)).not.toBe(second)
  })
})

describe.skipIf(cannotRun)(`the same container again (${cannotRun ?? 'real ones'})`, () => {
  it('gets its own names, and errors tell them', async () => {
    const sandbox = new Sandbox()
    await sandbox.remember()
    try {
      const same = specOf(['sleep', '1000'], { linux: { ...specOf([]).linux, resources: { pids: { limit: 20 } } } })
      const cgroups = new Set<string>()
      for (let i = 0; i < 3; i++) {
        const container = await sandbox.create(same)
        await container.start()
        const own = (await container.stats()).pids.current
        expect(own).toBe(1)
        cgroups.add(container.id)
        await container.delete({ force: true })
      }
      expect(cgroups.size).toBe(3)
      const broken = { ...same, root: { path: '/nowhere' } }
      for (let i = 0; i < 3; i++) {
        const error = await sandbox.create(broken).catch((reason: unknown) => reason)
        expect(error).toMatchObject({ code: 'ERR_OCI_RUNTIME', cause: { path: '/nowhere' } })
        expect(String(error)).not.toContain(blank)
      }
    } finally {
      await sandbox.expectNothingLeft()
      await sandbox.remove()
    }
  })
})
