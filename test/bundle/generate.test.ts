import { describe, expect, it } from 'vitest'
import { type BundleOptions, createSpec, type ImageDefaults, type Spec, validateSpec } from '../../src/bundle/index.ts'
import { InvalidArgumentError, NotFoundError } from '../../src/errors.ts'

const id = '0123456789abcdef'.repeat(4)
const image: ImageDefaults = {
  architecture: 'amd64',
  config: {
    User: 'web',
    Env: ['LANG=C.UTF-8', 'PATH=/opt/bin:/bin'],
    Entrypoint: ['/entry.sh'],
    Cmd: ['serve', '--all'],
    WorkingDir: '/srv/app/../web',
  },
}
const accounts = {
  passwd: Buffer.from('root:x:0:0:root:/root:/bin/sh\nweb:x:101:102:Web:/var/www:/bin/false\n'),
  group: Buffer.from('root:x:0:\nwww:x:102:\nssl:x:110:web,other\n'),
}

function spec(options: Partial<BundleOptions> = {}, of: ImageDefaults | undefined = image): Spec {
  return validateSpec(createSpec(of, { id, accounts, ...options }))
}

function mount(of: Spec, destination: string): { readonly options: readonly string[]; readonly source?: string } {
  const found = of.mounts?.find((one) => one.destination === destination)
  if (found === undefined) throw new Error(`no mount on ${destination}`)
  return { ...found, options: found.options ?? [] }
}

describe('createSpec', () => {
  it('runs what the image says, as the user it names, where it says', () => {
    const { process, hostname, root, ociVersion } = spec()
    expect(ociVersion).toBe('1.3.0')
    expect(root).toEqual({ path: 'rootfs', readonly: false })
    expect(hostname).toBe('0123456789ab')
    expect(process).toMatchObject({
      args: ['/entry.sh', 'serve', '--all'],
      cwd: '/srv/web',
      terminal: false,
      noNewPrivileges: false,
      user: { uid: 101, gid: 102, additionalGids: [102, 110] },
    })
    expect(process?.env).toEqual(['PATH=/opt/bin:/bin', 'HOSTNAME=0123456789ab', 'LANG=C.UTF-8', 'HOME=/var/www'])
    expect(process?.rlimits).toBeUndefined()
    expect(process?.oomScoreAdj).toBeUndefined()
  })

  it('takes the command of the image out of use with its entrypoint, as Docker does', () => {
    const args = (options: Partial<BundleOptions>): readonly string[] | undefined => spec(options).process?.args
    expect(args({ command: ['x'] })).toEqual(['/entry.sh', 'x'])
    expect(args({ entrypoint: ['sh'] })).toEqual(['sh'])
    expect(args({ entrypoint: ['sh'], command: ['-c', 'ls'] })).toEqual(['sh', '-c', 'ls'])
    expect(args({ entrypoint: [], command: ['ls'] })).toEqual(['ls'])
    expect(() => createSpec(undefined, { id })).toThrow(/no command/)
    expect(() => createSpec(image, { id, accounts, entrypoint: [] })).toThrow(InvalidArgumentError)
  })

  it('sets the environment in the order default, image, option, and can take a variable away', () => {
    const env = spec({ terminal: true, env: { LANG: 'de_DE', A: '', HOME: '/home/x', HOSTNAME: null } }).process?.env
    expect(env).toEqual(['PATH=/opt/bin:/bin', 'TERM=xterm', 'LANG=de_DE', 'A=', 'HOME=/home/x'])
    const bare = spec({ command: ['sh'], user: '7' }, {}).process?.env
    expect(bare).toEqual([
      'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      'HOSTNAME=0123456789ab',
      'HOME=/',
    ])
    expect(() => spec({ env: { 'A=B': 'c' } })).toThrow(InvalidArgumentError)
    expect(() => spec({ env: { A: 'b\0c' } })).toThrow(InvalidArgumentError)
  })

  it("grants Docker's 14 capabilities, and none that programs would inherit", () => {
    const sets = spec().process?.capabilities
    expect(sets?.bounding).toHaveLength(14)
    expect(sets?.effective).toEqual(sets?.bounding)
    expect(sets?.permitted).toEqual(sets?.bounding)
    expect(sets).not.toHaveProperty('inheritable')
    expect(sets).not.toHaveProperty('ambient')
  })

  it('adds and drops capabilities as Docker reads them', () => {
    const bounding = (capabilities: NonNullable<BundleOptions['capabilities']>): readonly string[] =>
      spec({ capabilities }).process?.capabilities?.bounding ?? []
    expect(bounding({ add: ['net_admin'], drop: ['CAP_MKNOD'] })).toContain('CAP_NET_ADMIN')
    expect(bounding({ add: ['net_admin'], drop: ['CAP_MKNOD'] })).not.toContain('CAP_MKNOD')
    expect(bounding({ drop: ['ALL'], add: ['CHOWN'] })).toEqual(['CAP_CHOWN'])
    expect(bounding({ add: ['all'], drop: ['SYS_ADMIN'] })).toHaveLength(40)
    expect(() => bounding({ add: ['SYS_DANCE'] })).toThrow(/CAP_SYS_DANCE|SYS_DANCE/)
  })

  it('has the namespaces of a container, and leaves out those of the host', () => {
    const types = (of: Spec): unknown => of.linux?.namespaces
    expect(types(spec())).toEqual([
      { type: 'mount' },
      { type: 'pid' },
      { type: 'network' },
      { type: 'ipc' },
      { type: 'uts' },
      { type: 'cgroup' },
    ])
    const shared = spec({ network: 'host', uts: 'host', pid: { path: '/proc/7/ns/pid' }, time: 'private' })
    expect(types(shared)).toEqual([
      { type: 'mount' },
      { type: 'pid', path: '/proc/7/ns/pid' },
      { type: 'ipc' },
      { type: 'cgroup' },
      { type: 'time' },
    ])
    expect(shared.hostname).toBeUndefined()
    expect(shared.linux?.sysctl).toBeUndefined()
    expect(() => spec({ uts: 'host', hostname: 'x' })).toThrow(InvalidArgumentError)
  })

  it("makes Docker's mounts, with /sys and the cgroups read-only", () => {
    const { mounts } = spec()
    expect(mounts?.map((one) => one.destination)).toEqual([
      '/proc',
      '/dev',
      '/dev/pts',
      '/sys',
      '/sys/fs/cgroup',
      '/dev/mqueue',
      '/dev/shm',
    ])
    expect(mount(spec(), '/sys').options).toContain('ro')
    expect(mount(spec(), '/sys/fs/cgroup').options).toContain('ro')
    expect(mount(spec(), '/dev/shm').options).toContain('size=67108864')
    expect(mount(spec({ shmSize: '1g' }), '/dev/shm').options).toContain('size=1073741824')
  })

  it('masks and protects what tells about the host or changes it', () => {
    const { linux } = spec({ host: { maskedPaths: ['/sys/devices/system/cpu/cpu0/thermal_throttle'] } })
    for (const path of ['/proc/kcore', '/proc/interrupts', '/sys/devices/virtual/powercap', '/sys/firmware']) {
      expect(linux?.maskedPaths).toContain(path)
    }
    expect(linux?.maskedPaths).toContain('/sys/devices/system/cpu/cpu0/thermal_throttle')
    expect(linux?.readonlyPaths).toContain('/proc/sys')
    expect(spec({ maskedPaths: [] }).linux?.maskedPaths).toEqual([])
  })

  it("puts the user's mounts last, parents first, over default ones with the same target", () => {
    const { mounts } = spec({
      mounts: [
        { type: 'bind', source: '/srv/a', target: '/data/deep/a', readOnly: true },
        { type: 'tmpfs', target: '/data', size: '8m', mode: 0o700 },
        { type: 'volume', source: '/var/lib/v', target: '/dev/shm' },
        { type: 'spec', mount: { destination: '/o', type: 'overlay', source: 'overlay', options: ['lowerdir=/a'] } },
      ],
    })
    expect(mounts?.slice(-4).map((one) => one.destination)).toEqual(['/data', '/o', '/dev/shm', '/data/deep/a'])
    expect(mounts?.filter((one) => one.destination === '/dev/shm')).toHaveLength(1)
    expect(mounts?.at(-1)).toEqual({
      destination: '/data/deep/a',
      type: 'bind',
      source: '/srv/a',
      options: ['rbind', 'ro', 'rro', 'rprivate'],
    })
    expect(mounts?.at(-4)?.options).toEqual(['noexec', 'nosuid', 'nodev', 'rprivate', 'mode=700', 'size=8388608'])
    const overDev = spec({ mounts: [{ type: 'bind', source: '/dev', target: '/dev' }] }).mounts
    expect(overDev?.map((one) => one.destination)).toEqual(['/proc', '/sys', '/sys/fs/cgroup', '/dev'])
  })

  it('lets mounts propagate as far as one of them asks for', () => {
    const bind = { type: 'bind', source: '/a', target: '/a' } as const
    const propagation = (...kinds: readonly ('rprivate' | 'rslave' | 'shared')[]): unknown =>
      spec({ mounts: kinds.map((kind, i) => ({ ...bind, target: `/${i}`, propagation: kind })) }).linux
        ?.rootfsPropagation
    expect(propagation('rprivate')).toBeUndefined()
    expect(propagation('rprivate', 'rslave')).toBe('slave')
    expect(propagation('rslave', 'shared')).toBe('shared')
  })

  it('refuses mounts that can only be mistakes', () => {
    const broken: readonly NonNullable<BundleOptions['mounts']>[number][] = [
      { type: 'bind', source: 'data', target: '/data' },
      { type: 'bind', source: '/data', target: 'data' },
      { type: 'tmpfs', target: '/' },
      { type: 'tmpfs', target: '/x/..' },
    ]
    for (const one of broken) expect(() => spec({ mounts: [one] })).toThrow(InvalidArgumentError)
    const twice = [
      { type: 'tmpfs', target: '/x' },
      { type: 'tmpfs', target: '/x/' },
    ] as const
    expect(() => spec({ mounts: twice })).toThrow(/two mounts/)
  })

  it('makes a read-only root without a hole: only /dev, /proc and what was asked for can be written', () => {
    const { root, mounts } = spec({ readOnly: true, mounts: [{ type: 'tmpfs', target: '/tmp' }] })
    expect(root?.readonly).toBe(true)
    const writable = mounts?.filter((one) => !one.options?.includes('ro')).map((one) => one.destination)
    expect(writable).toEqual(['/proc', '/dev', '/dev/pts', '/dev/mqueue', '/dev/shm', '/tmp'])
  })

  it('translates limits as Docker does', () => {
    const limits = (options: Partial<BundleOptions>): unknown => {
      const { devices: _, ...rest } = spec(options).linux?.resources ?? {}
      return rest
    }
    expect(limits({})).toEqual({})
    expect(limits({ memory: '64m', cpus: 0.5, pids: 64 })).toEqual({
      memory: { limit: 67108864, swap: 134217728 },
      cpu: { quota: 50000, period: 100000 },
      pids: { limit: 64 },
    })
    expect(limits({ memory: 1e6, memorySwap: -1, memoryReservation: '500k', pids: -1 })).toEqual({
      memory: { limit: 1e6, swap: -1, reservation: 512000 },
      pids: { limit: -1 },
    })
    expect(limits({ cpuShares: 512, cpusetCpus: '0-1,3', cpusetMems: '0' })).toEqual({
      cpu: { shares: 512, cpus: '0-1,3', mems: '0' },
    })
    for (const options of [
      { memory: 0 },
      { memorySwap: '1m' as const },
      { memory: '2m', memorySwap: '1m' } as const,
      { cpus: 0 },
      { cpus: Number.NaN },
      { cpuShares: 1 },
      { cpusetCpus: 'all' },
      { pids: 0 },
      { pids: 1.5 },
    ]) {
      expect(() => spec(options), JSON.stringify(options)).toThrow(InvalidArgumentError)
    }
  })

  it('opens the default devices and those given, and denies all others first', () => {
    const { linux } = spec({ devices: [{ path: '/dev/fuse', type: 'c', major: 10, minor: 229, access: 'rw' }] })
    const rules = linux?.resources?.devices ?? []
    expect(rules[0]).toEqual({ allow: false, access: 'rwm' })
    expect(rules.slice(1).every((rule) => rule.allow)).toBe(true)
    expect(rules.at(-1)).toEqual({ allow: true, type: 'c', major: 10, minor: 229, access: 'rw' })
    expect(linux?.devices).toEqual([{ path: '/dev/fuse', type: 'c', major: 10, minor: 229 }])
  })

  it('sets resource limits only when asked', () => {
    const rlimits = (ulimits: NonNullable<BundleOptions['ulimits']>): unknown => spec({ ulimits }).process?.rlimits
    expect(rlimits({ nofile: 1024, core: { soft: 0, hard: 'unlimited' } })).toEqual([
      { type: 'RLIMIT_NOFILE', soft: 1024, hard: 1024 },
      { type: 'RLIMIT_CORE', soft: 0, hard: 2n ** 64n - 1n },
    ])
    expect(() => rlimits({ nofile: { soft: 2, hard: 1 } })).toThrow(InvalidArgumentError)
    expect(() => rlimits({ nofile: -2 })).toThrow(InvalidArgumentError)
  })

  it('fits a user namespace: no gid without a name, no sysctl out of range, no filesystem it may not mount', () => {
    const single = { containerID: 0, hostID: 1000, size: 1 }
    const options = { user: '0', userNamespace: { uidMappings: [single], gidMappings: [single] } }
    const rootless = spec(options)
    expect(rootless.linux?.namespaces?.[0]).toEqual({ type: 'user' })
    expect(rootless.linux?.uidMappings).toEqual([single])
    expect(mount(rootless, '/dev/pts').options).not.toContain('gid=5')
    expect(rootless.linux?.sysctl).toEqual({ 'net.ipv4.ip_unprivileged_port_start': '0' })
    expect(mount(spec({ ...options, network: 'host' }), '/sys')).toMatchObject({
      source: '/sys',
      options: ['rbind', 'nosuid', 'noexec', 'nodev', 'ro'],
    })
    const range = { containerID: 0, hostID: 100000, size: 65536 }
    const full = spec({ userNamespace: { uidMappings: [range], gidMappings: [range] } })
    expect(mount(full, '/dev/pts').options).toContain('gid=5')
  })

  it('has a seccomp profile that follows capabilities and architecture, and can go without', () => {
    const names = (of: Spec): readonly string[] => of.linux?.seccomp?.syscalls?.[0]?.names ?? []
    expect(spec().linux?.seccomp?.architectures).toEqual(['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'])
    expect(names(spec())).not.toContain('mount')
    expect(names(spec({ capabilities: { add: ['SYS_ADMIN'] } }))).toContain('mount')
    expect(names(spec({ host: { architecture: 'arm64' } }))).toContain('arm_fadvise64_64')
    expect(spec({ seccomp: 'unconfined' }).linux?.seccomp).toBeUndefined()
    const own = { defaultAction: 'SCMP_ACT_LOG' } as const
    expect(spec({ seccomp: own }).linux?.seccomp).toEqual(own)
    expect(spec().linux?.seccomp).toBe(spec().linux?.seccomp)
  })

  it('names the user or option that it can do nothing with', () => {
    expect(() => spec({ user: 'nobody-here' })).toThrow(NotFoundError)
    expect(() => spec({ user: 'nobody-here' })).toThrow(/"nobody-here"/)
    expect(() => spec({ workingDir: 'relative' })).toThrow(/workingDir/)
    expect(() => spec({ command: ['a\0b'] })).toThrow(InvalidArgumentError)
  })
})
