import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { LinuxIntelRdt, LinuxResources } from '../../src/bundle/index.ts'
import { formatCalls } from '../../src/linux/format.ts'
import { hostHierarchies, v1MountPoint } from '../../src/runtime/cgroups/hierarchies.ts'
import { planExecCgroups } from '../../src/runtime/exec-cgroups.ts'
import { planExec } from '../../src/runtime/exec-plan.ts'
import { thisHost } from '../../src/runtime/host.ts'
import { exec, type RuntimeContainer } from '../../src/runtime/index.ts'
import { cannotRun, Sandbox, specOf } from './support.ts'

const place = (controller: string): string | undefined =>
  cannotRun === undefined ? v1MountPoint(hostHierarchies(), controller) : undefined
const why =
  cannotRun ??
  (['cpu', 'memory', 'pids', 'freezer'].some((each) => place(each) === undefined)
    ? 'needs cgroups of version 1'
    : undefined)

/** Path of a process in the hierarchy of a controller, as the host has it. */
function pathOf(pid: number, controller: string): string {
  const text = readFileSync(`/proc/${pid}/cgroup`, 'utf8')
  return (
    text
      .split('\n')
      .find((line) => line.split(':')[1]?.split(',').includes(controller))
      ?.split(':')[2] ?? ''
  )
}

describe.skipIf(why)(`exec into cgroups (${why ?? 'of version 1'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  const running = async (resources: LinuxResources = {}): Promise<RuntimeContainer> => {
    const { linux } = specOf([])
    const container = await sandbox.create(specOf(['sleep', '1000'], { linux: { ...linux, resources } }))
    await container.start()
    return container
  }
  const limits = { cpu: { shares: 512 }, memory: { limit: 64 << 20 } }

  it('goes below that of the container, by controller', async () => {
    const container = await running(limits)
    const process = await container.exec({ args: ['sleep', '1000'] }, { cgroup: { cpu: 'a/', memory: '/b' } })
    const own = (controller: string): string => pathOf(container.pid, controller)
    expect(pathOf(process.pid, 'cpu')).toBe(join(own('cpu'), 'a'))
    expect(pathOf(process.pid, 'memory')).toBe(join(own('memory'), 'b'))
    expect(pathOf(process.pid, 'pids')).toBe(own('pids'))
    process.kill('SIGKILL')
    await process.exited
    const again = await exec(
      container.id,
      { args: ['sleep', '1000'] },
      { stateRoot: sandbox.stateRoot, cgroup: { memory: 'c' } },
    )
    expect(pathOf(again.pid, 'cpu')).toBe(own('cpu'))
    expect(pathOf(again.pid, 'memory')).toBe(join(own('memory'), 'c'))
    again.kill('SIGKILL')
    await again.exited
    await container.delete({ force: true })
  })

  it('says for which controllers there is none, and what leads out', async () => {
    const container = await running(limits)
    const refused = async (cgroup: Readonly<Record<string, string>>, subject: string): Promise<void> =>
      expect(container.exec({ args: ['true'] }, { cgroup })).rejects.toMatchObject({
        code: 'ERR_OCI_INVALID_ARGUMENT',
        subject,
      })
    await refused({ nonsense: 'a' }, 'nonsense')
    await refused({ pids: 'a' }, 'pids')
    await refused({ cpu: '../a' }, '../a')
    await container.delete({ force: true })
  })

  it('goes to what a limit has made necessary since the container was made', async () => {
    const container = await running(limits)
    await container.update({ pids: { limit: 50 } })
    const process = await container.exec({ args: ['sleep', '1000'] })
    expect(pathOf(process.pid, 'pids')).toBe(pathOf(container.pid, 'pids'))
    expect(basename(pathOf(process.pid, 'pids'))).toContain(container.id)
    process.kill('SIGKILL')
    await process.exited
    await container.delete({ force: true })
  })

  it('goes to that of the first process, where the container has none of its own', async () => {
    const container = await running(limits)
    const other = join(place('freezer') as string, `${container.id}-other`)
    mkdirSync(other)
    try {
      writeFileSync(join(other, 'tasks'), String(container.pid))
      const options = { stateRoot: sandbox.stateRoot, cgroup: 'below' }
      const process = await exec(container.id, { args: ['sleep', '1000'] }, options)
      expect(pathOf(process.pid, 'freezer')).toBe(`/${basename(other)}`)
      // What is not the container's gets no cgroup of an exec below it.
      expect(pathOf(process.pid, 'cpu')).toBe(join(pathOf(container.pid, 'cpu'), 'below'))
      process.kill('SIGKILL')
      await process.exited
    } finally {
      await container.delete({ force: true })
      rmdirSync(other)
    }
  })
})

// No processor here has RDT: what the kernel would be told is looked at.
describe('exec into a class of service', () => {
  const mountinfo = '30 25 0:26 / /sys/fs/resctrl rw,relatime - resctrl resctrl rw\n'
  const text = (calls: Parameters<typeof formatCalls>[0]): string => formatCalls(calls).join('\n')
  const planned = (intelRdt: LinuxIntelRdt | undefined, mounted = true) => {
    const host = {
      ...thisHost(),
      read: (path: string) => (path === '/proc/self/mountinfo' && mounted ? mountinfo : ''),
    }
    const spec = specOf(['true'], { linux: { ...specOf([]).linux, ...(intelRdt === undefined ? {} : { intelRdt }) } })
    const process = { cwd: '/', args: ['true'], env: ['PATH=/bin'] }
    const common = { id: 'box', pid: 7, bundle: '/bundle', cgroups: [], outlive: false, preserveFds: 0 }
    const plan = planExec({ ...common, spec, process, host })
    return { joiner: text(plan.joiner), become: text(plan.become(8)) }
  }

  it('opens it on the host, and joins it as the process that becomes the program', () => {
    const { joiner, become } = planned({ l3CacheSchema: 'L3:0=f', enableMonitoring: true })
    const opened = joiner.indexOf('"/sys/fs/resctrl/box/tasks"')
    expect(opened).toBeGreaterThan(0)
    expect(opened).toBeLessThan(joiner.indexOf('setns('))
    expect(joiner).toContain('"/sys/fs/resctrl/box/mon_groups/box/tasks"')
    expect(become).toContain('write(108, "0", 1)')
    expect(become).toContain('write(109, "0", 1)')
    expect(planned({ closID: 'gold' }).joiner).toContain('"/sys/fs/resctrl/gold/tasks"')
  })

  it('does nothing of it where there is none', () => {
    expect(planned(undefined).joiner).not.toContain('resctrl')
    expect(planned({ closID: 'gold' }, false).joiner).not.toContain('resctrl')
  })
})

describe('the cgroup of an exec', () => {
  it.each([null, 5, { cpu: 5 }, { cpu: null }, ['cpu'], 'a\0b', { cpu: 'a\0b' }])('is a path, not %j', (given) => {
    const cgroups = [{ directory: '/sys/fs/cgroup/cpu/box', version: 1, controllers: ['cpu'], isOwn: true }] as const
    const subCgroup = given as unknown as string
    expect(() => planExecCgroups({ cgroups, subCgroup, firstDescriptor: 100, host: thisHost() })).toThrow(
      expect.objectContaining({ code: 'ERR_OCI_INVALID_ARGUMENT' }),
    )
  })
})
