import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Scheduler } from '../../src/bundle/index.ts'
import { type Host, thisHost } from '../../src/runtime/host.ts'
import { deleteContainer, formatPlan, plan } from '../../src/runtime/index.ts'
import { warningsOf } from '../../src/runtime/warnings.ts'
import { cannotRun, dockerMounts, hostMounts, Sandbox, type SpecChanges, specOf } from './support.ts'

describe.skipIf(cannotRun)(`attributes of the program's process (${cannotRun ?? 'real containers'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  /** Runs a container and looks at its process from outside. */
  const lookAt = async (changes: SpecChanges, file: string): Promise<string> => {
    const container = await sandbox.create(specOf(['sleep', '1000'], changes))
    await container.start()
    const text = readFileSync(`/proc/${container.pid}/${file}`, 'utf8')
    await container.delete({ force: true })
    return text
  }
  /** Fields of /proc/<pid>/stat by their numbers in proc_pid_stat(5), from the third on. */
  const stat = (text: string, field: number): string =>
    text.slice(text.lastIndexOf(')') + 2).split(' ')[field - 3] ?? ''

  it.each<readonly [string, Scheduler, { readonly nice: string; readonly priority: string; readonly policy: string }]>([
    ['other, nice 5', { policy: 'SCHED_OTHER', nice: 5 }, { nice: '5', priority: '0', policy: '0' }],
    ['batch, nice -3', { policy: 'SCHED_BATCH', nice: -3 }, { nice: '-3', priority: '0', policy: '3' }],
    ['idle', { policy: 'SCHED_IDLE' }, { nice: '0', priority: '0', policy: '5' }],
    ['fifo', { policy: 'SCHED_FIFO', priority: 7 }, { nice: '0', priority: '7', policy: '1' }],
    [
      'round robin, reset on fork',
      { policy: 'SCHED_RR', priority: 3, flags: ['SCHED_FLAG_RESET_ON_FORK'] },
      { nice: '0', priority: '3', policy: '2' },
    ],
    [
      'deadline',
      { policy: 'SCHED_DEADLINE', runtime: 1_000_000, deadline: 10_000_000, period: 20_000_000 },
      { nice: '0', priority: '0', policy: '6' },
    ],
  ])('has the scheduling policy %s', async (_, scheduler, expected) => {
    const text = await lookAt({ process: { scheduler } }, 'stat')
    expect({ nice: stat(text, 19), priority: stat(text, 40), policy: stat(text, 41) }).toEqual(expected)
  })

  it('has the times of the deadline policy', async () => {
    const scheduler: Scheduler = {
      policy: 'SCHED_DEADLINE',
      runtime: 2_000_000,
      deadline: 8_000_000,
      period: 9_000_000,
    }
    const text = await lookAt({ process: { scheduler } }, 'sched')
    expect(text).toMatch(/^dl\.runtime +: +\d/m)
    const spec = specOf(['true'], { process: { scheduler: { ...scheduler, runtime: 9_000_000 } } })
    const container = await sandbox.create(spec)
    await expect(container.start()).rejects.toMatchObject({
      code: 'ERR_OCI_RUNTIME',
      step: 'set the scheduling policy SCHED_DEADLINE',
      pointer: '/process/scheduler',
    })
    await container.delete()
  })

  it('names the policy that the kernel does not have', async () => {
    const container = await sandbox.create(specOf(['true'], { process: { scheduler: { policy: 'SCHED_ISO' } } }))
    await expect(container.start()).rejects.toMatchObject({ pointer: '/process/scheduler' })
    await container.delete()
  })

  it('has the I/O priority', async () => {
    const ioPriority = (
      await sandbox.sh('ionice -p $$', { process: { ioPriority: { class: 'IOPRIO_CLASS_IDLE' } } })
    ).trim()
    expect(ioPriority).toBe('idle')
    const bestEffort = { class: 'IOPRIO_CLASS_BE', priority: 6 } as const
    expect(await sandbox.sh('ionice -p $$', { process: { ioPriority: bestEffort } })).toBe('best-effort: prio 6\n')
    const realTime = { class: 'IOPRIO_CLASS_RT', priority: 2 } as const
    expect(await sandbox.sh('ionice -p $$', { process: { ioPriority: realTime } })).toBe('realtime: prio 2\n')
  })

  it('has the personality of a machine of 32 bits', async () => {
    const machine = async (domain: 'LINUX' | 'LINUX32'): Promise<string> =>
      (await sandbox.sh('uname -m', { linux: { personality: { domain } } })).trim()
    expect(await machine('LINUX')).toBe(process.arch === 'x64' ? 'x86_64' : 'aarch64')
    expect(await machine('LINUX32')).toMatch(process.arch === 'x64' ? /^i686$/ : /^arm/)
  })

  it.each([
    ['MPOL_BIND', '0', [], 'bind:0'],
    ['MPOL_INTERLEAVE', '0-0', ['MPOL_F_STATIC_NODES'], 'interleave=static:0'],
    ['MPOL_PREFERRED', '0', [], 'prefer:0'],
    ['MPOL_PREFERRED_MANY', '0', ['MPOL_F_RELATIVE_NODES'], 'prefer (many)=relative:0'],
    ['MPOL_LOCAL', undefined, [], 'local'],
    ['MPOL_DEFAULT', undefined, [], 'default'],
  ] as const)('has the memory policy %s', async (mode, nodes, flags, expected) => {
    const memoryPolicy = { mode, flags, ...(nodes === undefined ? {} : { nodes }) }
    const text = await lookAt({ linux: { memoryPolicy } }, 'numa_maps')
    expect(
      new Set(
        text
          .trim()
          .split('\n')
          .map((line) => line.replace(/^\S+ /, '').split(/ (?:file|anon|stack|heap)/)[0]),
      ),
    ).toContain(expected)
  })

  it('has a session keyring of its own, unless it is to keep that of its maker', async () => {
    const keys = async (newKeyring: boolean): Promise<readonly [id: string, keys: string]> => {
      const id = sandbox.id()
      const { stdout } = await sandbox.run(specOf(['cat', '/proc/keys']), { id, newKeyring })
      return [id, stdout]
    }
    const [id, own] = await keys(true)
    expect(own).toMatch(new RegExp(` perm 3f1b0000 +0 +0 keyring +_ses\\.${id}: empty`))
    const [other, inherited] = await keys(false)
    expect(inherited).not.toContain(other)
  })

  it('keeps its name and the parameters of its namespaces to itself', async () => {
    const before = ['kernel/hostname', 'kernel/domainname', 'kernel/shmmni', 'net/ipv4/ip_forward'].map((path) =>
      readFileSync(`/proc/sys/${path}`, 'utf8'),
    )
    const changes: SpecChanges = {
      hostname: 'box',
      domainname: 'example.org',
      linux: {
        sysctl: { 'kernel.shmmni': '1234', 'net/ipv4/ip_forward': '1', 'net.ipv4.ip_local_port_range': '2000 3000' },
      },
    }
    const script = 'cd /proc/sys; cat kernel/hostname kernel/domainname kernel/shmmni net/ipv4/ip_forward'
    expect(await sandbox.sh(script, changes)).toBe('box\nexample.org\n1234\n1\n')
    const after = ['kernel/hostname', 'kernel/domainname', 'kernel/shmmni', 'net/ipv4/ip_forward'].map((path) =>
      readFileSync(`/proc/sys/${path}`, 'utf8'),
    )
    expect(after).toEqual(before)
  })

  it.each([
    ['a hostname', 'uts', { hostname: 'stolen' }, /hostname needs a uts namespace/],
    ['a domainname', 'uts', { domainname: 'stolen' }, /domainname needs a uts namespace/],
    ['a parameter of IPC', 'ipc', { linux: { sysctl: { 'kernel.shmmni': '1' } } }, /shmmni needs a ipc namespace/],
    [
      'a parameter of the network',
      'network',
      { linux: { sysctl: { 'net.core.somaxconn': '1' } } },
      /network namespace/,
    ],
    ['a parameter of the host', 'none', { linux: { sysctl: { 'vm.swappiness': '1' } } }, /belongs to no namespace/],
    ['a file that is no parameter', 'none', { linux: { sysctl: { '../x': '1' } } }, /no name of a kernel parameter/],
  ] as const)(
    'refuses %s that would change the host, though nobody has validated it',
    async (_, shared, changes, message) => {
      const namespaces = (specOf([]).linux?.namespaces ?? []).filter(({ type }) => type !== shared)
      const linux = { ...('linux' in changes ? changes.linux : {}), namespaces }
      const made = sandbox.create(specOf(['true'], { ...changes, linux }))
      await expect(made).rejects.toMatchObject({
        code: 'ERR_OCI_INVALID_ARGUMENT',
        message: expect.stringMatching(message),
      })
    },
  )

  it('shares the mounts of its maker when it has no mount namespace, and makes none there when it has none', async () => {
    const namespaces = (specOf([]).linux?.namespaces ?? []).filter(({ type }) => type !== 'mount')
    const before = hostMounts(sandbox.directory)
    const { stdout, status } = await sandbox.run(specOf(['ls', '/bin/busybox'], { mounts: [], linux: { namespaces } }))
    expect([stdout, status.code]).toEqual(['/bin/busybox\n', 0])
    expect(hostMounts(sandbox.directory)).toEqual(before)
  })

  describe('without a mount namespace, and with mounts', () => {
    const namespaces = (specOf([]).linux?.namespaces ?? []).filter(({ type }) => type !== 'mount')
    const spec = specOf(['sh', '-c', 'cat /proc/1/comm; touch /x; sleep 1000'], {
      root: { path: 'rootfs', readonly: true },
      linux: { namespaces },
    })
    /** Where something of the container is mounted on the host. */
    const mountPoints = (): readonly string[] => hostMounts(sandbox.directory).map((line) => line.split(' ')[4] ?? '')

    it('has them on the host, with a warning, until it is deleted', async () => {
      const before = mountPoints()
      const container = await sandbox.create(spec)
      await container.start()
      expect(container.warnings).toContainEqual(expect.stringMatching(/^the container has no mount namespace/))
      const made = mountPoints().filter((point) => point.startsWith(sandbox.rootfs))
      expect(made).toContain(`${sandbox.rootfs}/dev/pts`)
      expect(existsSync(`${sandbox.rootfs}/proc/1`)).toBe(true)
      expect(existsSync(`${sandbox.rootfs}/x`)).toBe(false)
      await container.delete({ force: true })
      expect(mountPoints()).toEqual(before)
    })

    it('leaves none when it can not be made, and none of somebody else', async () => {
      execFileSync('mount', ['--bind', sandbox.rootfs, sandbox.rootfs])
      try {
        const before = mountPoints()
        const mounts = [...dockerMounts, { destination: '/tmp', type: 'bind', source: '/no/such', options: ['bind'] }]
        await expect(sandbox.create({ ...spec, mounts })).rejects.toThrow(/no\/such/)
        expect(mountPoints()).toEqual(before)
        const container = await sandbox.create(spec, { handOver: true })
        await container.release()
        expect(mountPoints().length).toBeGreaterThan(before.length)
        await deleteContainer(container.id, { stateRoot: sandbox.stateRoot, force: true })
        expect(mountPoints()).toEqual(before)
      } finally {
        execFileSync('umount', [sandbox.rootfs])
      }
    })

    it('refuses the root of the host, and a user namespace, which has no rights there', async () => {
      const onHost = sandbox.create({ ...spec, root: { path: '/' } })
      await expect(onHost).rejects.toMatchObject({ code: 'ERR_OCI_UNSUPPORTED', subject: '/mounts' })
      const mappings = [{ containerID: 0, hostID: 0, size: 1 }]
      const linux = {
        namespaces: [...namespaces, { type: 'user' as const }],
        uidMappings: mappings,
        gidMappings: mappings,
      }
      const mapped = sandbox.create({ ...spec, linux })
      await expect(mapped).rejects.toMatchObject({ code: 'ERR_OCI_UNSUPPORTED', subject: '/mounts' })
    })
  })

  it('has its root without pivot_root when that is asked for', async () => {
    const { stdout } = await sandbox.run(specOf(['sh', '-c', 'ls /; cat /proc/self/mountinfo']), { noPivot: true })
    const [bin] = stdout.split('\n')
    expect(bin).toBe('bin')
    expect(stdout).not.toMatch(/ \/proc rw.*\n.* \/proc /)
  })
})

describe('labels of a security module', () => {
  const host = (files: Readonly<Record<string, string>>): Host => ({
    hierarchies: { v1: [], v2: undefined },
    kernel: [6, 8],
    capabilities: (1n << 41n) - 1n,
    uid: 0,
    gid: 0,
    inUserNamespace: false,
    isDirectory: () => true,
    writable: () => true,
    read: (path) => files[path],
  })
  const planOf = (changes: SpecChanges, files: Readonly<Record<string, string>>): string =>
    formatPlan(plan(specOf(['true'], changes), { bundle: '/bundle', host: host(files) }))
  const apparmor = { '/sys/module/apparmor/parameters/enabled': 'Y\n' }
  const selinux = { '/sys/fs/selinux/enforce': '1' }

  it('are written to the attributes of the process, by way of a descriptor of /proc, before anything is mounted', () => {
    const text = planOf({ process: { apparmorProfile: 'docker-default' } }, apparmor)
    expect(text).toMatch(
      /openat\(AT_FDCWD, "\/proc", O_RDONLY\|O_CLOEXEC\|O_PATH\|O_DIRECTORY, 0\) = (\$\d+) .*\nopenat2\(\1, "thread-self\/attr\/apparmor\/exec", \[24 bytes\], 24\) = (\$\d+) .*\nwrite\(\2, "exec docker-default", 19\)/,
    )
    expect(text.indexOf('attr/apparmor/exec')).toBeLessThan(text.indexOf('cut the mounts off'))
  })

  it('of SELinux hold for the program and its keys', () => {
    const text = planOf({ process: { selinuxLabel: 'system_u:system_r:container_t:s0:c1,c2' } }, selinux)
    expect(text).toMatch(/"thread-self\/attr\/exec"[^\n]*\nwrite\([^\n]*"system_u:system_r:container_t:s0"[^\n]*, 38\)/)
    expect(text).toMatch(/"thread-self\/attr\/keycreate"/)
    expect(text.indexOf('keycreate')).toBeLessThan(text.indexOf('make a session keyring'))
  })

  it('of SELinux for mounts have no effect where it is not active, and that is a warning', () => {
    const changes = { linux: { mountLabel: 'a:b:c:d' } }
    expect(planOf(changes, selinux)).toContain('"context", "a:b:c:d"')
    expect(planOf(changes, {})).not.toContain('a:b:c:d')
    const namespaces = { namespaces: { has: () => true } } as unknown as Parameters<typeof warningsOf>[1]
    const host = { ...thisHost(), read: () => undefined }
    expect(warningsOf(specOf(['true'], changes), namespaces, host)).toContain(
      'linux.mountLabel has no effect: SELinux is not active on this host',
    )
  })

  it.each([
    ['/process/apparmorProfile', { process: { apparmorProfile: 'docker-default' } }, selinux],
    ['/process/selinuxLabel', { process: { selinuxLabel: 'a:b:c:d' } }, apparmor],
  ] as const)('at %s are refused where the module is not active', (subject, changes, files) => {
    const error = expect.objectContaining({ code: 'ERR_OCI_UNSUPPORTED', subject })
    expect(() => planOf(changes, {})).toThrow(error)
    expect(() => planOf(changes, files)).toThrow(error)
  })
})
