import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { IdMapping, Mount } from '../../src/bundle/index.ts'
import { allNamespaces, cannotRun, dockerMounts, Sandbox, type SpecChanges, specOf, until } from './support.ts'

describe.skipIf(cannotRun)(`kinds of mounts (${cannotRun ?? 'in real containers'})`, () => {
  let sandbox: Sandbox
  let host: string
  let count = 0
  const mounted: string[] = []
  beforeAll(async () => {
    sandbox = new Sandbox()
    for (const path of [sandbox.directory, sandbox.bundle]) chmodSync(path, 0o755)
    await sandbox.remember()
  })
  beforeEach(() => {
    host = join(sandbox.directory, `host-${++count}`)
    mkdirSync(host)
    writeFileSync(join(host, 'file'), 'from the host\n')
  })
  afterEach(async () => {
    for (const path of mounted.splice(0).reverse()) execFileSync('umount', ['--recursive', path])
    await sandbox.expectNothingLeft()
  })
  afterAll(() => sandbox.remove())

  /** Mounts on the host, until the test ends. */
  const mountOnHost = (...args: readonly string[]): void => {
    execFileSync('mount', args)
    mounted.push(args.at(-1) as string)
  }
  const withMounts = (...mounts: readonly Mount[]): { readonly mounts: readonly Mount[] } => ({
    mounts: [...dockerMounts, ...mounts],
  })
  const bind = (destination: string, source: string, ...options: readonly string[]): Mount => ({
    destination,
    type: 'bind',
    source,
    options,
  })
  /** What mountinfo says of a path: options of the mount, its propagation, type and options of the file system. */
  const lineOf = (mountinfo: string, path: string): string => {
    const line = mountinfo.split('\n').findLast((each) => each.split(' ')[4] === path) ?? ''
    return line.split(' ').slice(5).join(' ')
  }
  const infoOf = async (path: string, ...mounts: readonly Mount[]): Promise<string> =>
    lineOf(await sandbox.sh('cat /proc/self/mountinfo', withMounts(...mounts)), path)
  const mapped: readonly IdMapping[] = [{ containerID: 0, hostID: 100_000, size: 65_536 }]
  const user: SpecChanges['linux'] = {
    namespaces: [...allNamespaces, 'user' as const].map((type) => ({ type })),
    uidMappings: mapped,
    gidMappings: mapped,
  }

  it.each([
    [['nosymfollow'], /nosymfollow/],
    [['strictatime'], /^rw /],
    [['noatime', 'nodiratime'], /^rw,noatime,nodiratime /],
    [['nodiratime', 'noexec', 'nodev', 'nosuid', 'ro'], /^ro,nosuid,nodev,noexec,nodiratime,relatime /],
    [['sync', 'dirsync', 'size=1m'], / - tmpfs tmpfs rw,sync,dirsync,size=1024k/],
    [['lazytime', 'mode=700'], / - tmpfs tmpfs rw,lazytime,mode=700/],
    [['silent', 'iversion', 'noexec', 'size=2m'], /^rw,noexec,relatime .*- tmpfs tmpfs rw,size=2048k/],
    [['shared'], / shared:\d+ - /],
    [['unbindable'], / unbindable - /],
  ])('have the options %j', async (options, expected) => {
    expect(await infoOf('/data', { destination: '/data', type: 'tmpfs', source: 'tmpfs', options })).toMatch(expected)
  })

  it('of type tmpfs have the mode of the directory below, unless that is new or another one is asked for', async () => {
    const tmpfs = (destination: string, ...options: readonly string[]) => {
      return { destination, type: 'tmpfs', source: 'tmpfs', options }
    }
    chmodSync(join(sandbox.rootfs, 'root'), 0o700)
    const mounts = [tmpfs('/root'), tmpfs('/etc', 'ro'), tmpfs('/tmp', 'mode=711'), tmpfs('/new')]
    const script = 'stat -c %a /root /etc /tmp /new; touch /etc/x 2>/dev/null || echo refused'
    expect(await sandbox.sh(script, withMounts(...mounts))).toBe('700\n755\n711\n1777\nrefused\n')
    rmdirSync(join(sandbox.rootfs, 'new'))
  })

  it('follow no symlink where they are not to', async () => {
    symlinkSync('file', join(host, 'link'))
    const script = 'cat /data/link 2>/dev/null || echo refused; cat /data/file'
    expect(await sandbox.sh(script, withMounts(bind('/data', host, 'rbind', 'nosymfollow')))).toBe(
      'refused\nfrom the host\n',
    )
  })

  it('change all mounts below with the recursive options, and only the first without', async () => {
    mountOnHost('-t', 'tmpfs', 'below', host)
    mkdirSync(join(host, 'sub'))
    mountOnHost('-t', 'tmpfs', 'deeper', join(host, 'sub'))
    const below = async (...options: readonly string[]) => {
      const info = await sandbox.sh('cat /proc/self/mountinfo', withMounts(bind('/data', host, ...options)))
      return [lineOf(info, '/data'), lineOf(info, '/data/sub')].map((line) => line.split(' ')[0])
    }
    expect(await below('rbind', 'ro')).toEqual(['ro,relatime', 'rw,relatime'])
    expect(await below('rbind', 'rro', 'rnosuid', 'rnoexec')).toEqual([
      'ro,nosuid,noexec,relatime',
      'ro,nosuid,noexec,relatime',
    ])
    expect(await below('rbind', 'ro', 'rnoatime', 'rnosymfollow')).toEqual([
      'ro,noatime,nosymfollow',
      'rw,noatime,nosymfollow',
    ])
    expect(await below('rbind', 'noexec', 'rro', 'rrw')).toEqual(['rw,noexec,relatime', 'rw,relatime'])
  })

  it('are changed by remount', async () => {
    const shm = {
      destination: '/dev/shm',
      type: 'tmpfs',
      source: 'shm',
      options: ['remount', 'size=4m', 'noexec', 'ro'],
    }
    expect(await infoOf('/dev/shm', shm)).toMatch(/^ro,noexec,relatime .*- tmpfs shm ro,size=4096k/)
    const data = [bind('/data', host, 'bind'), bind('/data', host, 'bind', 'remount', 'ro', 'nodev')]
    expect(await infoOf('/data', ...data)).toMatch(/^ro,nodev,relatime /)
  })

  it('can have more options than fit in one call of the newer interface', async () => {
    const layers = Array.from({ length: 12 }, (_, index) => join(host, `layer-${index}-${'x'.repeat(30)}`))
    for (const path of layers) mkdirSync(path)
    writeFileSync(join(layers.at(-1) as string, 'lowest'), '')
    const options = [`lowerdir=${layers.join(':')}`, 'ro']
    const overlay = { destination: '/data', type: 'overlay', source: 'overlay', options }
    expect(await sandbox.sh('ls /data', withMounts(overlay))).toBe('lowest\n')
  })

  describe('with propagation', () => {
    beforeEach(() => {
      mountOnHost('-t', 'tmpfs', 'propagating', host)
      execFileSync('mount', ['--make-shared', host])
      mkdirSync(join(host, 'sub'))
    })
    const waiting = async (option: string, linux: SpecChanges['linux'] = {}) => {
      const capabilities = ['CAP_SYS_ADMIN']
      const sets = { bounding: capabilities, permitted: capabilities, effective: capabilities }
      const spec = specOf(
        [
          'sh',
          '-c',
          'until test -e /data/go; do usleep 5000; done; mount -t tmpfs inside /data/sub; touch /data/done; sleep 1000',
        ],
        {
          ...withMounts(bind('/data', host, 'rbind', option)),
          process: { capabilities: sets },
          linux,
        },
      )
      const container = await sandbox.create(spec)
      await container.start()
      return container
    }
    const isMountedOnHost = (): boolean =>
      execFileSync('cat', ['/proc/self/mountinfo'], { encoding: 'utf8' }).includes(' inside ')
    const finished = async (): Promise<void> => {
      writeFileSync(join(host, 'go'), '')
      await until('it has mounted', () => existsSync(join(host, 'done')))
    }

    it('of a peer, a mount inside shows outside where the root is shared', async () => {
      const container = await waiting('rshared', { rootfsPropagation: 'rshared' })
      await finished()
      expect(isMountedOnHost()).toBe(true)
      await container.delete({ force: true })
    })

    it.each(['rshared', 'rslave', 'rprivate'])('%s, a mount inside does not show outside', async (option) => {
      const container = await waiting(option)
      await finished()
      expect(isMountedOnHost()).toBe(false)
      await container.delete({ force: true })
    })

    it.each([
      ['rslave', true],
      ['rshared', true],
      ['rprivate', false],
    ])('%s, a mount outside shows inside: %s', async (option, shows) => {
      const container = await waiting(option)
      mountOnHost('-t', 'tmpfs', 'outside', join(host, 'sub'))
      writeFileSync(join(host, 'sub/seen'), '')
      expect(existsSync(`/proc/${container.pid}/root/data/sub/seen`)).toBe(shows)
      await container.delete({ force: true })
    })

    it.each([
      ['shared', / shared:\d+ - /],
      ['rshared', / shared:\d+ - /],
      ['slave', /^rw,relatime master:\d+ - /],
      ['rslave', /^rw,relatime master:\d+ - /],
      ['private', /^rw,relatime - /],
      ['rprivate', /^rw,relatime - /],
      ['unbindable', /^rw,relatime unbindable - /],
      [undefined, /^rw,relatime - /],
    ] as const)('the root has %s', async (rootfsPropagation, expected) => {
      execFileSync('cp', ['-a', sandbox.rootfs, join(host, 'rootfs')])
      const linux = rootfsPropagation === undefined ? {} : { rootfsPropagation }
      const info = await sandbox.sh('cat /proc/self/mountinfo', { root: { path: join(host, 'rootfs') }, linux })
      expect(lineOf(info, '/')).toMatch(expected)
      // Whatever it is: none of the container's mounts came to the host.
      const outside = execFileSync('cat', ['/proc/self/mountinfo'], { encoding: 'utf8' })
      expect(outside).not.toContain(join(host, 'rootfs'))
    })
  })

  describe('whose owners are mapped', () => {
    const owners = 'stat -c %u:%g /data/file'
    const shifted = [{ containerID: 0, hostID: 3000, size: 1000 }]

    it('have the owners of explicit mappings', async () => {
      chownSync(join(host, 'file'), 5, 6)
      const mount = { ...bind('/data', host, 'rbind'), uidMappings: shifted, gidMappings: shifted }
      chmodSync(host, 0o777)
      const changes = { ...withMounts(mount), process: { user: { uid: 3007, gid: 3008 } } }
      expect(await sandbox.sh(`${owners}; touch /data/new`, changes)).toBe('3005:3006\n')
      const { uid, gid } = statSync(join(host, 'new'))
      expect([uid, gid]).toEqual([7, 8])
    })

    it.each(['idmap', 'ridmap'])('have the owners of the user namespace by %s', async (option) => {
      const changes = { ...withMounts(bind('/data', host, 'bind', option)), linux: user }
      expect(await sandbox.sh(`${owners}; touch /data/new`, changes)).toBe('0:0\n')
      expect(statSync(join(host, 'new')).uid).toBe(0)
      const plain = { ...withMounts(bind('/data', host, 'bind')), linux: user }
      expect(await sandbox.sh(owners, plain)).toBe('65534:65534\n')
    })

    it('map those of all mounts below only by ridmap', async () => {
      mountOnHost('-t', 'tmpfs', 'below', host)
      mkdirSync(join(host, 'sub'))
      mountOnHost('-t', 'tmpfs', 'deeper', join(host, 'sub'))
      const stat = 'stat -c %u /data /data/sub'
      const of = async (option: string): Promise<string> =>
        sandbox.sh(stat, { ...withMounts(bind('/data', host, 'rbind', option)), linux: user })
      expect(await of('idmap')).toBe('0\n65534\n')
      expect(await of('ridmap')).toBe('0\n0\n')
    })

    it('may be new file systems, too', async () => {
      const tmpfs = { destination: '/data', type: 'tmpfs', source: 'tmpfs', uidMappings: shifted, gidMappings: shifted }
      expect(await sandbox.sh('stat -c %u:%g /data', withMounts(tmpfs))).toBe('3000:3000\n')
    })

    it('name the file system that has none of it', async () => {
      const mount = { ...bind('/data', '/sys/kernel', 'bind'), uidMappings: shifted, gidMappings: shifted }
      await expect(sandbox.create(specOf(['true'], withMounts(mount)))).rejects.toMatchObject({
        code: 'ERR_OCI_RUNTIME',
        step: 'map the owners of /data',
        pointer: `/mounts/${dockerMounts.length}`,
        hint: expect.stringContaining('The file system sysfs of /sys/kernel has no idmapped mounts'),
      })
    })

    it('need both maps, or a user namespace', async () => {
      const half = { ...bind('/data', host, 'bind'), uidMappings: shifted }
      const bare = bind('/data', host, 'bind', 'idmap')
      for (const mount of [half, bare]) {
        const made = sandbox.create(specOf(['true'], withMounts(mount)))
        await expect(made).rejects.toMatchObject({ code: 'ERR_OCI_INVALID_ARGUMENT' })
      }
    })
  })

  it('reach directories that are closed to a user namespace', async () => {
    chmodSync(host, 0o755)
    const closed = join(sandbox.directory, `closed-${count}`)
    mkdirSync(join(closed, 'open'), { recursive: true })
    chmodSync(closed, 0o700)
    writeFileSync(join(closed, 'open/file'), 'reached\n')
    const changes = { ...withMounts(bind('/data', join(closed, 'open'), 'rbind')), linux: user }
    expect(await sandbox.sh('cat /data/file', changes)).toBe('reached\n')
  })

  describe("of the kernel's own file systems", () => {
    it('show in a user namespace those of the host, protected, where the namespace is shared', async () => {
      const without = (...types: readonly string[]): NonNullable<SpecChanges['linux']> => ({
        ...user,
        namespaces: (user?.namespaces ?? []).filter(({ type }) => !types.includes(type)),
      })
      const script = `ls -d /sys/class/net/lo
        touch /sys/x /sys/fs/cgroup/x 2>/dev/null || echo refused`
      expect(await sandbox.sh(script, { linux: without('network') })).toBe('/sys/class/net/lo\nrefused\n')
      expect(await sandbox.sh('ls -d /proc/self', { linux: without('pid') })).toBe('/proc/self\n')
    })

    it('show a container without cgroup namespace its own cgroup and no other', async () => {
      const namespaces = allNamespaces.filter((type) => type !== 'cgroup').map((type) => ({ type }))
      const id = sandbox.id()
      const linux = { namespaces, resources: { pids: { limit: 17 } } }
      const script =
        'cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; ls /sys/fs/cgroup/pids 2>/dev/null'
      const { stdout } = await sandbox.run(specOf(['sh', '-c', script], { linux }), { id })
      expect(stdout).toMatch(/^17\n/)
      expect(stdout).not.toContain('oci-ts')
    })

    it.each(['/proc/sys', '/proc/self/attr', '/proc/1', '/proc/sysrq-trigger'])(
      'can not be mounted over at %s',
      async (path) => {
        const made = sandbox.create(specOf(['true'], withMounts(bind(path, host, 'bind'))))
        await expect(made).rejects.toMatchObject({
          code: 'ERR_OCI_INVALID_ARGUMENT',
          message: expect.stringContaining('inside /proc'),
        })
      },
    )

    it('can be mounted over where a container is to see its own figures', async () => {
      const file = join(host, 'file')
      expect(await sandbox.sh('cat /proc/uptime', withMounts(bind('/proc/uptime', file, 'bind')))).toBe(
        'from the host\n',
      )
    })

    it('can not be mounted over by way of a symlink', async () => {
      const link = join(sandbox.rootfs, 'into-proc')
      symlinkSync('/proc/sys', link)
      const made = sandbox.create(specOf(['true'], withMounts(bind('/into-proc', host, 'bind'))))
      await expect(made).rejects.toMatchObject({
        code: 'ERR_OCI_RUNTIME',
        message: expect.stringContaining('leads into /proc'),
      })
    })

    it('can not be replaced by a directory', async () => {
      const made = sandbox.create(specOf(['true'], { mounts: [bind('/proc', host, 'bind')] }))
      await expect(made).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME', message: expect.stringContaining('/proc') })
      const { status } = await sandbox.run(specOf(['true'], { mounts: [bind('/proc', '/proc', 'rbind')] }))
      expect(status.code).toBe(0)
    })
  })

  describe('on /dev', () => {
    it('of a directory of the host are left as they are', async () => {
      const { stdout } = await sandbox.run(specOf(['ls', '/dev'], { mounts: [bind('/dev', host, 'bind')] }))
      expect(stdout).toBe('file\n')
      expect(readdirSync(host)).toEqual(['file'])
    })

    it('that have another file where a device is to be are an error', async () => {
      const rootfs = join(sandbox.directory, `rootfs-${count}`)
      execFileSync('cp', ['-a', sandbox.rootfs, rootfs])
      const withDevice = {
        ...withMounts(),
        mounts: dockerMounts.filter(({ destination }) => !destination.startsWith('/dev')),
      }
      const create = async (linux: SpecChanges['linux'] = {}) => {
        const { status } = await sandbox.run(specOf(['true'], { ...withDevice, root: { path: rootfs }, linux }))
        return status.code
      }
      expect(await create()).toBe(0)
      // They are there now, and are what they should be.
      expect(await create()).toBe(0)
      writeFileSync(join(rootfs, 'dev/mine'), '')
      const mine = { path: '/dev/mine', type: 'c' as const, major: 1, minor: 5 }
      const refused = { code: 'ERR_OCI_RUNTIME', step: 'make the device /dev/mine', pointer: '/linux/devices/0' }
      await expect(create({ devices: [mine] })).rejects.toMatchObject(refused)
      execFileSync('rm', [join(rootfs, 'dev/mine')])
      symlinkSync('null', join(rootfs, 'dev/mine'))
      await expect(create({ devices: [{ ...mine, minor: 3 }] })).rejects.toMatchObject(refused)
      execFileSync('rm', [join(rootfs, 'dev/mine')])
      execFileSync('mknod', [join(rootfs, 'dev/mine'), 'c', '1', '7'])
      await expect(create({ devices: [mine] })).rejects.toMatchObject(refused)
      expect(await create({ devices: [{ ...mine, minor: 7 }] })).toBe(0)
    })

    it('in a user namespace have the devices of the host, if they are those that are asked for', async () => {
      const zero = { path: '/dev/zero', type: 'c' as const, major: 1, minor: 5 }
      expect(
        await sandbox.sh('head -c3 /dev/zero | wc -c; test -p /dev/pipe && echo pipe', {
          linux: { ...user, devices: [zero, { path: '/dev/pipe', type: 'p' }] },
        }),
      ).toBe('3\npipe\n')
      const wrong = sandbox.create(specOf(['true'], { linux: { ...user, devices: [{ ...zero, minor: 9 }] } }))
      await expect(wrong).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME', step: 'bind the device /dev/zero' })
    })
  })
})
