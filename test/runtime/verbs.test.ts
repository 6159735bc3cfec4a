import { existsSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { LinuxResources } from '../../src/bundle/index.ts'
import { hostHierarchies, v1MountPoint } from '../../src/runtime/cgroups/hierarchies.ts'
import {
  type ContainerEvent,
  events,
  killAll,
  pause,
  type RuntimeContainer,
  resume,
  state,
  stats,
  top,
  update,
  usage,
} from '../../src/runtime/index.ts'
import { allNamespaces, cannotRun, Sandbox, type SpecChanges, specOf, until } from './support.ts'

const counter = 'i=0; while :; do i=$((i+1)); echo $i >/tmp/count; done'

describe.skipIf(cannotRun)(`the verbs of a running container (${cannotRun ?? 'real ones'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    // Node opens what it watches files with at the first use, and keeps it.
    watch(sandbox.directory).close()
    await sandbox.remember()
  })
  afterEach(async () => {
    await sandbox.expectNothingLeft()
    for (const name of ['count', 'may', 'go', 'end']) rmSync(join(sandbox.rootfs, 'tmp', name), { force: true })
  })
  afterAll(() => sandbox.remove())

  async function running(script: string, changes: SpecChanges = {}): Promise<RuntimeContainer> {
    const container = await sandbox.create(specOf(['sh', '-c', script], changes))
    await container.start()
    return container
  }

  /** Processor time of the first process, in ticks. */
  const ticksOf = ({ pid }: RuntimeContainer): string =>
    readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ').slice(11, 13).join(' ') ?? ''

  describe('pause and resume', () => {
    it('stop all processes where they are, and let them go on', async () => {
      const container = await running(counter)
      const count = join(sandbox.rootfs, 'tmp/count')
      await until('it counts', () => existsSync(count))
      await container.pause()
      expect(container.state.status).toBe('paused')
      expect((await state(container.id, sandbox)).status).toBe('paused')
      const before = ticksOf(container)
      const busy = performance.now()
      while (performance.now() - busy < 50);
      expect(ticksOf(container)).toBe(before)
      await container.resume()
      expect(container.state.status).toBe('running')
      await until('it counts on', () => ticksOf(container) !== before)
      await container.delete({ force: true })
    })

    it('work by id, and say when there is nothing to do', async () => {
      const container = await running('sleep 1000')
      const { id } = container
      await expect(resume(id, sandbox)).rejects.toMatchObject({ code: 'ERR_OCI_CONFLICT' })
      await pause(id, sandbox)
      await expect(pause(id, sandbox)).rejects.toMatchObject({ code: 'ERR_OCI_CONFLICT' })
      await resume(id, sandbox)
      await container.delete({ force: true })
      await expect(pause(id, sandbox)).rejects.toMatchObject({ code: 'ERR_OCI_NOT_FOUND' })
    })

    it('do not keep a paused container from being killed and deleted', async () => {
      const container = await running('sleep 1000 & sleep 1000')
      await container.pause()
      container.kill('KILL')
      expect((await container.exited).signal).toBe('SIGKILL')
      await container.delete()
      const other = await running('sleep 1000')
      await other.pause()
      await other.delete({ force: true })
    })

    it('hold while processes fork as fast as they can', async () => {
      const container = await running('while :; do true & true & wait; done', {
        linux: { resources: { pids: { limit: 200 } } },
      })
      for (let round = 0; round < 10; round++) {
        await container.pause()
        await container.resume()
      }
      await container.delete({ force: true })
    })
  })

  describe('update', () => {
    const read = (container: RuntimeContainer, controller: string, v1: string, v2: string): string => {
      const isV1 = v1MountPoint(hostHierarchies(), controller) !== undefined
      return readFileSync(join(cgroupOf(container.id, controller), isV1 ? v1 : v2), 'utf8').trim()
    }

    it('changes limits, up and down, and leaves the others', async () => {
      const resources = { memory: { limit: 64 << 20, swap: 64 << 20 }, pids: { limit: 20 } }
      const container = await running('sleep 1000', { linux: { resources } })
      const limit = (): string => read(container, 'memory', 'memory.limit_in_bytes', 'memory.max')
      await container.update({ memory: { limit: 128 << 20, swap: 256 << 20 } })
      expect(limit()).toBe(String(128 << 20))
      await update(container.id, { memory: { limit: 32 << 20, swap: 32 << 20 } }, sandbox)
      expect(limit()).toBe(String(32 << 20))
      expect(read(container, 'pids', 'pids.max', 'pids.max')).toBe('20')
      await container.update({ pids: { limit: -1 }, memory: { limit: 0 } })
      expect([read(container, 'pids', 'pids.max', 'pids.max'), limit()]).toEqual(['max', String(32 << 20)])
      await container.delete({ force: true })
    })

    it('gives a limit to what had none of that kind, for all its processes', async () => {
      const container = await running('sleep 1000 & sleep 1000 & sleep 1000')
      await until('all processes are there', () => childrenOf(container.pid) >= 2)
      await update(container.id, { memory: { limit: 48 << 20 }, cpu: { shares: 512, cpus: '0' } }, sandbox)
      expect(read(container, 'memory', 'memory.limit_in_bytes', 'memory.max')).toBe(String(48 << 20))
      for (const { pid } of await container.top()) {
        expect(readFileSync(`/proc/${pid}/status`, 'utf8')).toMatch(/^Cpus_allowed_list:\s+0$/m)
        expect(readFileSync(`/proc/${pid}/cgroup`, 'utf8')).toMatch(new RegExp(`(:memory:|0::)/oci-ts-${container.id}`))
      }
      await container.delete({ force: true })
    })

    it('by somebody else leaves a container that is created one that can be started', async () => {
      const container = await sandbox.create(specOf(['sh', '-c', 'exit 3']))
      await update(container.id, { memory: { limit: 48 << 20 } }, sandbox)
      expect((await state(container.id, sandbox)).status).toBe('created')
      await container.start()
      expect(await state(container.id, sandbox)).toMatchObject({ status: expect.stringMatching(/running|stopped/) })
      expect((await container.exited).code).toBe(3)
      await container.delete()
    })

    it('changes quota and period in whatever order the kernel takes them', async () => {
      const container = await running('sleep 1000', {
        linux: { resources: { cpu: { quota: 50_000, period: 100_000 } } },
      })
      const steps: readonly LinuxResources[] = [
        { cpu: { quota: 5000, period: 10_000 } },
        { cpu: { quota: 900_000, period: 1_000_000 } },
        { cpu: { quota: 2000 } },
        { cpu: { period: 50_000 } },
      ]
      for (const step of steps) await container.update(step)
      if (v1MountPoint(hostHierarchies(), 'cpu') === undefined)
        expect(read(container, 'cpu', '', 'cpu.max')).toBe('2000 50000')
      else expect(read(container, 'cpu', 'cpu.cfs_period_us', '')).toBe('50000')
      await container.delete({ force: true })
    })

    it('takes back what it has set when something can not be set', async () => {
      const container = await running('sleep 1000', {
        linux: { resources: { memory: { limit: 64 << 20 }, cpu: { shares: 512 } } },
      })
      const failing = container.update({ memory: { limit: 128 << 20 }, cpu: { cpus: '4095' } })
      await expect(failing).rejects.toMatchObject({
        code: 'ERR_OCI_RUNTIME',
        step: 'set cpuset.cpus to 4095',
        pointer: '/linux/resources/cpu/cpus',
      })
      expect(read(container, 'memory', 'memory.limit_in_bytes', 'memory.max')).toBe(String(64 << 20))
      await container.delete({ force: true })
    })

    it('refuses a memory limit below what is used, when asked to look', async () => {
      const resources = { memory: { limit: 64 << 20 } }
      const script = 'head -c 20000000 /dev/zero >/dev/shm/f; sleep 1000'
      const container = await running(script, { linux: { resources } })
      await until(
        'memory is in use',
        () => Number(read(container, 'memory', 'memory.usage_in_bytes', 'memory.current')) > 20_000_000,
      )
      const low = { limit: 1 << 20, checkBeforeUpdate: true }
      await expect(container.update({ memory: low })).rejects.toMatchObject({ code: 'ERR_OCI_CONFLICT' })
      expect(read(container, 'memory', 'memory.limit_in_bytes', 'memory.max')).toBe(String(64 << 20))
      await container.delete({ force: true })
    })

    it('changes which devices can be used', async () => {
      const deny = { allow: false, access: 'rwm' }
      const kmsg = { allow: true, type: 'c', major: 1, minor: 11, access: 'r' } as const
      const script = 'while :; do head -c0 /dev/kmsg 2>/dev/null && echo yes >/tmp/may || echo no >/tmp/may; done'
      const container = await running(script, {
        linux: { devices: [{ path: '/dev/kmsg', type: 'c', major: 1, minor: 11 }], resources: { devices: [deny] } },
      })
      const may = (): string => {
        const path = join(sandbox.rootfs, 'tmp/may')
        return existsSync(path) ? readFileSync(path, 'utf8').trim() : ''
      }
      await until('it may not', () => may() === 'no')
      await container.update({ devices: [deny, kmsg] })
      await until('it may', () => may() === 'yes')
      await container.update({ devices: [deny] })
      await until('it may not any more', () => may() === 'no')
      await container.delete({ force: true })
    })
  })

  describe('stats and top', () => {
    it('tell what is used, with limits and without', async () => {
      for (const resources of [{}, { memory: { limit: 64 << 20 }, pids: { limit: 30 }, cpu: { quota: 90_000 } }]) {
        const container = await running(`sleep 1000 & sleep 1000 & ${counter}`, { linux: { resources } })
        await until('it has used processor time', () => !/^[01] [01]$/.test(ticksOf(container)))
        const found = await stats(container.id, sandbox)
        const isLimited = 'memory' in resources
        expect(found.cpu.usage).toBeGreaterThan(0)
        expect(found.memory.usage).toBeGreaterThan(0)
        expect(found.memory.workingSet).toBeLessThanOrEqual(found.memory.usage)
        expect(found.memory.limit).toBe(isLimited ? 64 << 20 : undefined)
        expect(found.pids.limit).toBe(isLimited ? 30 : undefined)
        expect(found.pids.current).toBeGreaterThanOrEqual(3)
        expect(Object.keys(found.network)).toEqual(['lo'])
        if (hostHierarchies().v2 !== undefined) expect(found.pressure.cpu?.some.total).toBeGreaterThanOrEqual(0)
        await container.delete({ force: true })
        await expect(container.stats()).rejects.toMatchObject({ code: 'ERR_OCI_CONFLICT' })
      }
    })

    it('count exactly where that was asked for', async () => {
      const container = await sandbox.create(specOf(['sh', '-c', counter]), { accounting: true })
      await container.start()
      const { memory } = await container.stats()
      expect(memory.source).toBe('cgroup')
      const mounted = hostHierarchies().v1.map(({ controllers }) => controllers.join())
      const lines = readFileSync(`/proc/${container.pid}/cgroup`, 'utf8').trim().split('\n')
      const paths = lines.map((line) => line.split(':')).filter(([, names = '']) => mounted.includes(names))
      expect(paths.filter(([, , path]) => path?.endsWith(`/oci-ts-${container.id}`) !== true)).toEqual([])
      await container.delete({ force: true })
    })

    it('list the processes as the host and the container see them', async () => {
      const container = await running('sleep 987 & exec sleep 986')
      await until('both are there', () => childrenOf(container.pid) === 1)
      const child = readFileSync(`/proc/${container.pid}/task/${container.pid}/children`, 'utf8').trim()
      const runs = (pid: number | string, what: string): boolean =>
        readFileSync(`/proc/${pid}/cmdline`, 'utf8') === `sleep\0${what}\0`
      await until('both are what they will be', () => runs(container.pid, '986') && runs(child, '987'))
      const processes = await top(container.id, sandbox)
      expect(processes.map(({ command, containerPid }) => [containerPid, ...command])).toEqual([
        [1, 'sleep', '986'],
        [2, 'sleep', '987'],
      ])
      expect(processes[0]).toMatchObject({ pid: container.pid, uid: 0, threads: 1 })
      expect(processes[1]?.parent).toBe(container.pid)
      expect(Math.abs(Date.now() - (processes[0]?.started.getTime() ?? 0))).toBeLessThan(60_000)
      await container.delete({ force: true })
    })
  })

  describe('usage', () => {
    it('tells after the end what was used, also to those who did not make the container', async () => {
      const container = await running('i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 3', {})
      expect(await container.exited).toMatchObject({ code: 3 })
      const used = await usage(container.id, sandbox)
      expect(await container.usage()).toEqual(used)
      expect(used?.userTime).toBeGreaterThan(0)
      expect(used?.maxResident).toBeGreaterThan(100_000)
      await container.delete()
      await expect(usage(container.id, sandbox)).rejects.toMatchObject({ code: 'ERR_OCI_NOT_FOUND' })
    })
  })

  describe('killAll', () => {
    it('reaches every process, also those that do not listen', async () => {
      const container = await running('trap "" TERM; (trap "" TERM; sleep 1000) & sleep 1000 & wait; sleep 1000')
      await until('all are there', () => childrenOf(container.pid) >= 2)
      await killAll(container.id, 'KILL', sandbox)
      expect((await container.exited).signal).toBe('SIGKILL')
      await expect(killAll(container.id, 'KILL', sandbox)).rejects.toMatchObject({ code: 'ERR_OCI_CONFLICT' })
      await container.delete()
    })
  })

  describe('killAll of a container', () => {
    it('reaches what is left when its first process has ended', async () => {
      const namespaces = allNamespaces.filter((type) => type !== 'pid').map((type) => ({ type }))
      const container = await running('trap "" TERM; sleep 1000 & echo $!', { linux: { namespaces } })
      await container.exited
      await container.killAll('KILL')
      const refused = async (): Promise<boolean> => {
        const code = await container.killAll('KILL').catch((error: { code: string }) => error.code)
        return code === 'ERR_OCI_CONFLICT'
      }
      await until('all are gone', refused)
      await container.delete()
    })
  })

  describe('events', () => {
    it('tell of pauses, kills for memory, and numbers, until the end', async () => {
      const resources = { memory: { limit: 16 << 20, swap: 16 << 20 } }
      const script =
        'until [ -e /tmp/go ]; do sleep 0.01; done; tail /dev/zero; until [ -e /tmp/end ]; do sleep 0.01; done'
      const container = await running(script, { linux: { resources } })
      const seen: ContainerEvent[] = []
      const reading = (async () => {
        for await (const event of events(container.id, { ...sandbox, interval: '20ms' })) seen.push(event)
      })()
      const has = (type: ContainerEvent['type']): boolean => seen.some((event) => event.type === type)
      await until('numbers come', () => has('stats'))
      await container.pause()
      await until('the pause is told', () => has('paused'))
      await container.resume()
      await until('the end of the pause is told', () => has('resumed'))
      touch('go')
      await until('the kill is told', () => has('oom'))
      expect(seen.find((event) => event.type === 'oom')).toEqual({ type: 'oom', kills: 1 })
      touch('end')
      await container.exited
      await reading
      await container.delete()
    })

    it('end when they are not wanted any more', async () => {
      const container = await running('sleep 1000')
      const stop = new AbortController()
      for await (const event of container.events({ interval: '10ms', signal: stop.signal })) {
        expect(event.type).toBe('stats')
        stop.abort()
      }
      for await (const event of container.events({ interval: '10ms' })) {
        expect(event.type).toBe('stats')
        break
      }
      await container.delete({ force: true })
    })

    it('tell of pressure', async () => {
      if (hostHierarchies().v2 === undefined) return
      const busy = '(while :; do :; done) & (while :; do :; done) & (while :; do :; done) & while :; do :; done'
      const container = await running(busy)
      const trigger = { resource: 'cpu', stall: '50ms' } as const
      for await (const event of container.events({ interval: 0, pressure: [trigger] })) {
        expect(event).toEqual({ type: 'pressure', trigger })
        break
      }
      await container.delete({ force: true })
    })
  })

  const touch = (name: string): void => writeFileSync(join(sandbox.rootfs, 'tmp', name), '')
})

function childrenOf(pid: number): number {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
  return text === '' ? 0 : text.split(' ').length
}

function cgroupOf(id: string, controller: string): string {
  const hierarchies = hostHierarchies()
  return join(v1MountPoint(hierarchies, controller) ?? hierarchies.v2?.mountPoint ?? '', `oci-ts-${id}`)
}
