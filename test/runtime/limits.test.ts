import { existsSync, readdirSync, readFileSync, rmdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { hostHierarchies, v1MountPoint } from '../../src/runtime/cgroups/hierarchies.ts'
import { cannotRun, dockerMounts, Sandbox, specOf, until } from './support.ts'

describe.skipIf(cannotRun)(`limits (${cannotRun ?? 'of real containers'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  it('of memory end what uses more, and the end tells so', async () => {
    const resources = { memory: { limit: 16 << 20, swap: 16 << 20 } }
    const { status } = await sandbox.run(specOf(['tail', '/dev/zero'], { linux: { resources } }))
    expect(status).toEqual({ code: 137, signal: 'SIGKILL', oomKilled: true })
  })

  it('of memory tell of a kill that the program survives', async () => {
    const resources = { memory: { limit: 16 << 20, swap: 16 << 20 } }
    const script = 'tail /dev/zero; echo "ended with $?"'
    const { status, stdout } = await sandbox.run(specOf(['sh', '-c', script], { linux: { resources } }))
    expect([status, stdout]).toEqual([{ code: 0, signal: undefined, oomKilled: true }, 'ended with 137\n'])
  })

  it('of memory are not blamed for a kill by someone else', async () => {
    const resources = { memory: { limit: 64 << 20, swap: 64 << 20 } }
    const container = await sandbox.create(specOf(['sleep', '1000'], { linux: { resources } }))
    await container.start()
    container.kill('KILL')
    expect(await container.exited).toEqual({ code: 137, signal: 'SIGKILL', oomKilled: false })
    await container.delete()
  })

  it('of memory may be as low as 512 KiB', async () => {
    const resources = { memory: { limit: 512 << 10, swap: 512 << 10 } }
    const { status } = await sandbox.run(specOf(['true'], { linux: { resources } }))
    expect(status).toEqual({ code: 0, signal: undefined, oomKilled: false })
  })

  it('hold for further processes, also in a cgroup below that is removed at the end', async () => {
    const resources = { memory: { limit: 64 << 20 }, pids: { limit: 10 }, cpu: { cpus: '0' } }
    const container = await sandbox.create(specOf(['sleep', '1000'], { linux: { resources } }))
    await container.start()
    const cgroups = (pid: number): string => readFileSync(`/proc/${pid}/cgroup`, 'utf8')
    const plain = await container.exec({ args: ['sleep', '1000'] })
    expect(cgroups(plain.pid)).toBe(cgroups(container.pid))
    const below = await container.exec({ args: ['sleep', '1000'] }, { cgroup: '/sub/' })
    const [, controller, path] = /:(memory)?:(.*\/sub)$/m.exec(cgroups(below.pid)) ?? []
    expect(path).toMatch(/\/sub$/)
    for (const one of [plain, below]) {
      one.kill('SIGKILL')
      await one.exited
    }
    expect(existsSync(join('/sys/fs/cgroup', controller ?? '', path ?? ''))).toBe(false)
    await container.delete({ force: true })
  })

  it('of processes stop a fork bomb', async () => {
    const resources = { pids: { limit: 20 } }
    const bomb = 'bomb() { bomb | bomb & }; bomb 2>/dev/null; while :; do sleep 1000 & done 2>/dev/null'
    const script = `(${bomb}) & exec sleep 1000`
    const container = await sandbox.create(specOf(['sh', '-c', script], { linux: { resources } }))
    const directory = cgroupOf(container.id, 'pids')
    await container.start()
    await until('it forks no more', () => /^max [1-9]/m.test(readFileSync(join(directory, 'pids.events'), 'utf8')))
    expect(Number(readFileSync(join(directory, 'pids.current'), 'utf8'))).toBeLessThanOrEqual(20)
    await container.delete({ force: true })
  })

  it('of processor time slow a busy loop down', async () => {
    // The share is what it had of the time between, on however busy a machine: never more than its quota.
    const run = async (quota: number): Promise<{ readonly share: number; readonly stat: string }> => {
      const resources = { cpu: { quota, period: 20_000 } }
      const container = await sandbox.create(specOf(['sh', '-c', 'while :; do :; done'], { linux: { resources } }))
      await container.start()
      const used = (): number => {
        const fields = readFileSync(`/proc/${container.pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
        return (Number(fields[11]) + Number(fields[12])) * 10
      }
      const began = performance.now()
      await until('a second has gone by', () => performance.now() - began > 1000)
      const share = used() / (performance.now() - began)
      const stat = readFileSync(join(cgroupOf(container.id, 'cpu'), 'cpu.stat'), 'utf8')
      await container.delete({ force: true })
      return { share, stat }
    }
    const half = await run(10_000)
    const tenth = await run(2000)
    // Bounds are wide: where the processor is emulated its clock is no good measure.
    expect(half.share).toBeLessThan(0.8)
    expect(tenth.share).toBeLessThan(0.4)
    // A tenth is what it gets also where many want the processors, so that it is the limit that stops it.
    expect(tenth.stat).toMatch(/^nr_throttled [1-9]/m)
  })

  it('are seen in the files of the cgroup', async () => {
    const resources = { memory: { limit: 64 << 20, reservation: 32 << 20 }, cpu: { shares: 512 }, pids: { limit: -1 } }
    const container = await sandbox.create(specOf(['true'], { linux: { resources } }))
    const read = (controller: string, v1: string, v2: string): string => {
      const isV1 = v1MountPoint(hostHierarchies(), controller) !== undefined
      return readFileSync(join(cgroupOf(container.id, controller), isV1 ? v1 : v2), 'utf8').trim()
    }
    expect(read('memory', 'memory.limit_in_bytes', 'memory.max')).toBe(String(64 << 20))
    expect(read('memory', 'memory.soft_limit_in_bytes', 'memory.low')).toBe(String(32 << 20))
    expect(['512', '59']).toContain(read('cpu', 'cpu.shares', 'cpu.weight'))
    expect(read('pids', 'pids.max', 'pids.max')).toBe('max')
    await container.delete()
  })

  it('go to the hierarchy that has their controller', async () => {
    const { v1, v2 } = hostHierarchies()
    const resources = {
      blockIO: { weight: 300, throttleReadBpsDevice: [{ ...rootDevice(), rate: 1 << 20 }] },
      hugepageLimits: [{ pageSize: '2MB', limit: 4 << 20 }],
      pids: { limit: 9 },
    }
    const container = await sandbox.create(specOf(['sleep', '1000'], { linux: { resources } }))
    await container.start()
    const membership = readFileSync(`/proc/${container.pid}/cgroup`, 'utf8')
    const read = (controller: string, file: string): string =>
      readFileSync(join(cgroupOf(container.id, controller), file), 'utf8')
    if (v1MountPoint(hostHierarchies(), 'blkio') !== undefined) {
      expect(read('blkio', 'blkio.throttle.read_bps_device')).toMatch(/^\d+:\d+ 1048576$/m)
      expect(read('blkio', 'blkio.bfq.weight')).toContain('300')
    } else {
      expect(read('io', 'io.max')).toContain('rbps=1048576')
    }
    if (v1MountPoint(hostHierarchies(), 'hugetlb') === undefined)
      expect(read('hugetlb', 'hugetlb.2MB.max')).toBe('4194304\n')
    expect(read('pids', 'pids.max')).toBe('9\n')
    if (v2 !== undefined) expect(membership).toContain(`0::/oci-ts-${container.id}`)
    // Those without a limit are not joined: each costs time.
    if (v1.length > 0) expect(membership).toMatch(/cpuset:\/$/m)
    await container.delete({ force: true })
  })

  it('end what a container left in cgroups of its own, when it is deleted', async () => {
    const mounts = dockerMounts.map((mount) => (mount.type === 'cgroup' ? { ...mount, options: ['rw'] } : mount))
    const script = `h=/sys/fs/cgroup; [ -d $h/unified ] && h=$h/unified; mkdir -p $h/a/b
      (sh -c "echo 0 >$h/a/b/cgroup.procs; exec sleep 1000" &); exec sleep 1000`
    const container = await sandbox.create(specOf(['sh', '-c', script], { mounts }))
    await container.start()
    const inner = join(cgroupOf(container.id, 'cgroup'), 'a/b/cgroup.procs')
    await until('a process is in the inner cgroup', () => existsSync(inner) && readFileSync(inner, 'utf8') !== '')
    await container.delete({ force: true })
  })

  it('apply at a path that is given, on every level of it', async () => {
    const cgroupsPath = `/oci-ts-${sandbox.id()}/inner`
    const resources = { pids: { limit: 7 }, cpu: { cpus: '0' } }
    const container = await sandbox.create(specOf(['sleep', '1000'], { linux: { cgroupsPath, resources } }))
    await container.start()
    const own = readFileSync(`/proc/${container.pid}/cgroup`, 'utf8')
    expect(own).toContain(cgroupsPath)
    expect(readFileSync(`/proc/${container.pid}/status`, 'utf8')).toMatch(/^Cpus_allowed_list:\s+0$/m)
    await container.delete({ force: true })
    removeParents(cgroupsPath)
  })

  it('name what can not be set', async () => {
    const resources = { cpu: { quota: 1, period: 1 } }
    await expect(sandbox.create(specOf(['true'], { linux: { resources } }))).rejects.toMatchObject({
      code: 'ERR_OCI_RUNTIME',
      step: expect.stringContaining('cpu.'),
      pointer: expect.stringContaining('/linux/resources/cpu'),
    })
  })

  it('of devices keep others out', async () => {
    const resources = {
      devices: [
        { allow: false, access: 'rwm' },
        { allow: true, type: 'c' as const, major: 1, minor: 11, access: 'r' },
      ],
    }
    const devices = [
      { path: '/dev/kmsg', type: 'c' as const, major: 1, minor: 11 },
      { path: '/dev/mem', type: 'c' as const, major: 1, minor: 1 },
    ]
    const script = `head -c0 /dev/kmsg && echo readable; head -c0 /dev/mem 2>&1; echo x >/dev/null; head -c1 /dev/urandom >/dev/null && echo random`
    expect(await sandbox.sh(script, { linux: { resources, devices } })).toBe(
      'readable\nhead: /dev/mem: Operation not permitted\nrandom\n',
    )
  })
})

/** A disk of this machine. */
function rootDevice(): { readonly major: number; readonly minor: number } {
  const disk = readdirSync('/sys/block').find((name) => /^(vd|sd|nvme|loop|nullb)/.test(name))
  const [major, minor] = readFileSync(`/sys/block/${disk}/dev`, 'utf8').trim().split(':').map(Number)
  return { major: major ?? 0, minor: minor ?? 0 }
}

function cgroupOf(id: string, controller: string): string {
  const hierarchies = hostHierarchies()
  return join(v1MountPoint(hierarchies, controller) ?? hierarchies.v2?.mountPoint ?? '', `oci-ts-${id}`)
}

function removeParents(cgroupsPath: string): void {
  const { v1, v2 } = hostHierarchies()
  for (const { mountPoint } of [...v1, ...(v2 === undefined ? [] : [v2])]) {
    try {
      rmdirSync(join(mountPoint, dirname(cgroupsPath)))
    } catch {
      // not in that hierarchy
    }
  }
}
