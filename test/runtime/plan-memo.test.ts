import { randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { blank } from '../../src/linux/call.ts'
import { Channel } from '../../src/linux/remote/channel.ts'
import type { Host } from '../../src/runtime/host.ts'
import { notRemoved, type Watch } from '../../src/runtime/monitor.ts'
import type { PlanOptions } from '../../src/runtime/plan.ts'
import { planAgain } from '../../src/runtime/plan-memo.ts'
import { cannotRun, dockerMounts, Sandbox, specOf } from './support.ts'

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
  return ids.map((id) => planAgain(options(id), filter, { config: key, others: '' }))
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
    planAgain(options, filter, { config: key, others: '' })
    const before = planAgain(options, filter, { config: key, others: '' })
    const without = { ...host, read: () => '' }
    expect(() => planAgain({ ...options, host: without }, filter, { config: key, others: '' })).toThrow(
      expect.objectContaining({ code: 'ERR_OCI_UNSUPPORTED' }),
    )
    expect(planAgain(options, filter, { config: key, others: '' })).not.toBe(before)
  })

  it('looks for processes in the cgroup of each id', () => {
    files.set('/sys/fs/cgroup/oci-ts-d/cgroup.procs', '1\n')
    expect(() => plansFor('b', 'c', 'd')).toThrow(expect.objectContaining({ code: 'ERR_OCI_CONFLICT' }))
  })

  it('knows what the monitor has removed of the cgroup of each id', () => {
    const [, , plan] = plansFor('a', 'b', 'c')
    const watch = plan?.watch({ stateRoot: '/run', pid: 1, rootMount: undefined })
    const cgroups = ['/sys/fs/cgroup/oci-ts-c', '/sys/fs/cgroup/pids/oci-ts-c']
    const leftAfter = (result: number) =>
      notRemoved(cgroups, watch as Watch, { value: () => result, bytes: vi.fn() }, 'c')
    expect(leftAfter(0)).toEqual(['/sys/fs/cgroup/pids/oci-ts-c'])
    expect(leftAfter(-16)).toEqual(cgroups)
  })

  it('keeps no more than a few', () => {
    const [, second] = plansFor('a', 'b')
    const texts = { config: `test ${keys}`, others: '' }
    for (let i = 0; i < 20; i++) plansFor('a')
    expect(planAgain({ id: 'c', spec, bundle: '/bundle', outlive: false, host }, filter, texts)).not.toBe(second)
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

  it('has an id of 64 digits wherever it was given, also its beginning', async () => {
    const sandbox = new Sandbox()
    await sandbox.remember()
    try {
      const run = vi.spyOn(Channel.prototype, 'run')
      const batches: number[] = []
      for (let i = 0; i < 4; i++) {
        const id = randomBytes(32).toString('hex')
        const shared = join(sandbox.directory, id)
        mkdirSync(shared)
        writeFileSync(join(shared, 'file'), `of ${id}`)
        const spec = specOf(
          ['sh', '-c', 'hostname; echo $OWN; cat /shared/file; grep -c /shared /proc/self/mountinfo'],
          {
            hostname: id.slice(0, 12),
            process: { env: ['PATH=/bin', `OWN=${id}`] },
            mounts: [
              ...dockerMounts,
              { destination: '/shared', type: 'bind', source: shared, options: ['rbind', 'ro'] },
            ],
          },
        )
        run.mockClear()
        const { stdout } = await sandbox.run(spec, { id })
        expect(stdout).toBe(`${id.slice(0, 12)}\n${id}\nof ${id}1\n`)
        batches.push(
          run.mock.calls.filter(([calls]) => calls.some(({ name }) => /^(?:sethostname|pivot_root)$/.test(name)))
            .length,
        )
      }
      run.mockRestore()
      // Only what is planned once is foreseen.
      expect(batches).toEqual([2, 2, 1, 1])
    } finally {
      await sandbox.expectNothingLeft()
      await sandbox.remove()
    }
  })
})
