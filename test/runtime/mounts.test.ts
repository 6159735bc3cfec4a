import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Mount } from '../../src/bundle/index.ts'
import { Racer } from '../security/support.ts'
import { cannotRun, dockerMounts, makeRootfs, Sandbox, specOf } from './support.ts'

describe.skipIf(cannotRun)(`mounts (${cannotRun ?? 'in real containers'})`, () => {
  let sandbox: Sandbox
  let host: string
  let count = 0
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  beforeEach(() => {
    host = join(sandbox.directory, `host-${++count}`)
    mkdirSync(host)
    writeFileSync(join(host, 'file'), 'from the host\n')
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  const withMounts = (...mounts: readonly Mount[]): { readonly mounts: readonly Mount[] } => ({
    mounts: [...dockerMounts, ...mounts],
  })
  const bind = (destination: string, source: string, ...options: readonly string[]): Mount => ({
    destination,
    type: 'bind',
    source,
    options: ['bind', ...options],
  })
  /** Type and options of a mount as the container sees it. */
  const mountOf = (mountinfo: string, path: string): string => {
    const line = mountinfo.split('\n').findLast((each) => each.split(' ')[4] === path) ?? ''
    const [before = '', after = ''] = line.split(' - ')
    return `${after.split(' ')[0]} ${before.split(' ')[5]} ${after.split(' ').slice(2).join(' ')}`
  }

  it('are as the config asks for', async () => {
    const mountinfo = await sandbox.sh('cat /proc/self/mountinfo')
    expect(mountOf(mountinfo, '/proc')).toMatch(/^proc rw,nosuid,nodev,noexec,relatime /)
    expect(mountOf(mountinfo, '/dev')).toMatch(/^tmpfs rw,nosuid .*size=65536k.*mode=755/)
    expect(mountOf(mountinfo, '/dev/pts')).toMatch(/^devpts rw,nosuid,noexec,relatime .*gid=5,mode=620,ptmxmode=666/)
    expect(mountOf(mountinfo, '/dev/shm')).toMatch(/^tmpfs rw,nosuid,nodev,noexec/)
    expect(mountOf(mountinfo, '/dev/mqueue')).toMatch(/^mqueue rw,nosuid,nodev,noexec/)
    expect(mountOf(mountinfo, '/sys')).toMatch(/^sysfs ro,nosuid,nodev,noexec/)
    expect(mountOf(mountinfo, '/sys/fs/cgroup')).toMatch(/^(tmpfs|cgroup2) ro,/)
  })

  it('show nothing of the host', async () => {
    const mountinfo = await sandbox.sh('cat /proc/self/mountinfo')
    const points = mountinfo
      .trim()
      .split('\n')
      .map((line) => line.split(' ')[4] ?? '')
    expect(points.filter((path) => !/^\/(?:$|proc|dev|sys)/.test(path))).toEqual([])
    expect(points.filter((path) => path.includes('oci-ts'))).toEqual([])
  })

  it('bind a directory of the host, writable', async () => {
    expect(await sandbox.sh('cat /data/file; echo back >/data/new', withMounts(bind('/data', host)))).toBe(
      'from the host\n',
    )
    expect(readFileSync(join(host, 'new'), 'utf8')).toBe('back\n')
  })

  it('bind read-only', async () => {
    const script = 'cat /data/file; touch /data/new 2>/dev/null || echo refused'
    expect(await sandbox.sh(script, withMounts(bind('/data', host, 'ro')))).toBe('from the host\nrefused\n')
    expect(readdirSync(host)).toEqual(['file'])
  })

  it('bind a file, on one that is made for it', async () => {
    const stdout = await sandbox.sh('cat /etc/deep/er/file', withMounts(bind('/etc/deep/er/file', join(host, 'file'))))
    expect(stdout).toBe('from the host\n')
  })

  describe('on a symlink of the image that leads to nothing', () => {
    const onLink = async (link: string, to: string, script: string, mount: (destination: string) => Mount) => {
      const rootfs = join(sandbox.directory, `dangling-${++count}`)
      makeRootfs(rootfs)
      mkdirSync(dirname(join(rootfs, link)), { recursive: true })
      symlinkSync(to, join(rootfs, link))
      return await sandbox.sh(script, { ...withMounts(mount(`/${link}`)), root: { path: rootfs } })
    }
    const onHost = '/oci-ts-dangling'
    afterEach(() => expect(existsSync(onHost)).toBe(false))

    it.each([
      ['an absolute one', `${onHost}/resolve/stub.conf`, `${onHost}/resolve/stub.conf`],
      ['a relative one', `..${onHost}/stub.conf`, `${onHost}/stub.conf`],
      ['one that tries to climb out', `../../../../../..${onHost}/stub.conf`, `${onHost}/stub.conf`],
    ])('a file is bound where it leads, inside the root: %s', async (_, to, there) => {
      const script = `cat /etc/resolv.conf ${there}; grep -c ' ${there} ' /proc/self/mountinfo`
      const stdout = await onLink('etc/resolv.conf', to, script, (path) => bind(path, join(host, 'file')))
      expect(stdout).toBe('from the host\nfrom the host\n1\n')
    })

    it('a directory is bound, and a file system mounted', async () => {
      const bound = await onLink('data', `${onHost}/a/b`, `cat ${onHost}/a/b/file`, (path) => bind(path, host))
      expect(bound).toBe('from the host\n')
      const tmpfs = (destination: string): Mount => ({ destination, type: 'tmpfs', source: 'tmpfs' })
      expect(await onLink('data', `${onHost}/a`, `mount | grep -c ' ${onHost}/a type tmpfs'`, tmpfs)).toBe('1\n')
    })

    it('also when the link is on the way, and leads to others', async () => {
      const rootfs = join(sandbox.directory, `dangling-${++count}`)
      makeRootfs(rootfs)
      mkdirSync(join(rootfs, 'var'))
      symlinkSync('../run', join(rootfs, 'var/run'))
      symlinkSync('second', join(rootfs, 'first'))
      symlinkSync('/third/fourth', join(rootfs, 'second'))
      const spec = withMounts(
        bind('/var/run/deep/file', join(host, 'file')),
        bind('/first/x', host),
        bind('/first/y', host),
      )
      const script = 'cat /run/deep/file /third/fourth/x/file /third/fourth/y/file'
      expect(await sandbox.sh(script, { ...spec, root: { path: rootfs } })).toBe('from the host\n'.repeat(3))
    })

    it('also while somebody else on the host mounts all the time', async () => {
      const mounted = join(host, 'mounted')
      mkdirSync(mounted)
      await using _ = Racer.mounts(mounted)
      for (let round = 0; round < 20; round++) {
        const mount = (destination: string): Mount => bind(destination, join(host, 'file'))
        expect(await onLink('etc/resolv.conf', `../run${onHost}/file`, 'cat /etc/resolv.conf', mount)).toBe(
          'from the host\n',
        )
      }
    })

    it('is refused when the link goes in circles, or into /proc', async () => {
      const failed = (to: string) => onLink('etc/resolv.conf', to, 'true', (path) => bind(path, join(host, 'file')))
      await expect(failed('resolv.conf')).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME', pointer: '/mounts/7' })
      await expect(failed('/proc/nothing')).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME', pointer: '/mounts/7' })
    })
  })

  it('bind a source relative to the bundle', async () => {
    mkdirSync(join(sandbox.bundle, 'beside'), { recursive: true })
    writeFileSync(join(sandbox.bundle, 'beside/file'), 'beside\n')
    expect(await sandbox.sh('cat /beside/file', withMounts(bind('/beside', 'beside')))).toBe('beside\n')
  })

  it('take options of their own: noexec, nosuid, nodev, noatime', async () => {
    const changes = withMounts(bind('/data', host, 'noexec', 'nosuid', 'nodev', 'noatime'))
    const mountinfo = await sandbox.sh('cat /proc/self/mountinfo', changes)
    expect(mountOf(mountinfo, '/data')).toMatch(/ rw,nosuid,nodev,noexec,noatime /)
  })

  it('let the last word of an option count', async () => {
    const mountinfo = await sandbox.sh(
      'cat /proc/self/mountinfo',
      withMounts(bind('/data', host, 'ro', 'noexec', 'rw')),
    )
    expect(mountOf(mountinfo, '/data')).toMatch(/ rw,noexec,/)
  })

  it('are private: what is mounted inside is not seen outside', async () => {
    const sys = ['CAP_SYS_ADMIN']
    await sandbox.sh('mount -t tmpfs none /data && mount | grep -q "on /data type tmpfs"', {
      ...withMounts(bind('/data', host)),
      process: { capabilities: { bounding: sys, permitted: sys, effective: sys } },
    })
  })

  it('are made in their order, one inside the other', async () => {
    const tmpfs = { destination: '/data', type: 'tmpfs', source: 'tmpfs', options: ['size=1m'] }
    const stdout = await sandbox.sh('ls /data /data/sub', withMounts(tmpfs, bind('/data/sub', host)))
    expect(stdout).toBe('/data:\nsub\n\n/data/sub:\nfile\n')
  })

  it('name what is missing', async () => {
    const made = sandbox.create(specOf(['true'], withMounts(bind('/data', join(host, 'nothing')))))
    await expect(made).rejects.toMatchObject({
      code: 'ERR_OCI_RUNTIME',
      step: 'mount /data',
      pointer: `/mounts/${dockerMounts.length}`,
      hint: expect.stringContaining('source'),
    })
  })

  it.each([
    ['an absolute symlink', '/outside'],
    ['a symlink that climbs', '../../../../../../../../outside'],
    ['a magic link of /proc', '/proc/self/root/outside'],
    ['a magic link to the working directory', '/proc/self/cwd'],
  ])('stay inside the root when the target is %s', async (_, target) => {
    const link = `link-${++count}`
    const outside = join(sandbox.directory, 'outside')
    symlinkSync(target === '/outside' ? outside : target, join(sandbox.rootfs, link))
    const made = sandbox.run(specOf(['ls', `/${link}/`], withMounts(bind(`/${link}/sub`, host))))
    await made.catch((error: unknown) => expect(error).toMatchObject({ code: 'ERR_OCI_RUNTIME' }))
    expect(existsSync(outside)).toBe(false)
    expect(existsSync('/outside')).toBe(false)
  })

  it.each(['/proc', '/sys', '/dev'])('refuse a root filesystem that has %s as a symlink', async (path) => {
    const rootfs = join(sandbox.directory, `rootfs-${++count}`)
    mkdirSync(join(rootfs, 'elsewhere'), { recursive: true })
    for (const name of ['proc', 'sys', 'dev', 'bin']) {
      if (`/${name}` === path) symlinkSync('elsewhere', join(rootfs, name))
      else mkdirSync(join(rootfs, name))
    }
    const made = sandbox.create(specOf(['true'], { root: { path: rootfs } }))
    await expect(made).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME', step: `mount ${path}` })
    expect(readdirSync(join(rootfs, 'elsewhere'))).toEqual([])
  })

  it('make no device on the host when /dev is a symlink and nothing is mounted there', async () => {
    const rootfs = join(sandbox.directory, `rootfs-${++count}`)
    mkdirSync(rootfs)
    symlinkSync(host, join(rootfs, 'dev'))
    const made = sandbox.create(specOf(['true'], { root: { path: rootfs }, mounts: [] }))
    await expect(made).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME', step: 'fill /dev' })
    expect(readdirSync(host)).toEqual(['file'])
  })

  it('keep the root read-only when it is to be', async () => {
    const script = 'touch /x 2>/dev/null || echo refused; touch /dev/shm/x && echo writable'
    expect(await sandbox.sh(script, { root: { path: 'rootfs', readonly: true } })).toBe('refused\nwritable\n')
    expect(existsSync(join(sandbox.rootfs, 'x'))).toBe(false)
  })

  it('hide masked paths, files and directories, also those that are not there', async () => {
    writeFileSync(join(sandbox.rootfs, 'etc/secret'), 'secret\n')
    mkdirSync(join(sandbox.rootfs, 'secrets'), { recursive: true })
    writeFileSync(join(sandbox.rootfs, 'secrets/key'), 'secret\n')
    const maskedPaths = ['/etc/secret', '/secrets', '/proc/keys', '/nowhere', '/proc/nowhere']
    const script = 'cat /etc/secret /proc/keys; ls /secrets; touch /secrets/x 2>/dev/null || echo refused'
    expect(await sandbox.sh(script, { linux: { maskedPaths } })).toBe('refused\n')
    expect(readFileSync(join(sandbox.rootfs, 'etc/secret'), 'utf8')).toBe('secret\n')
  })

  it('mask by the null device of the host, whatever the container has as /dev/null', async () => {
    writeFileSync(join(sandbox.rootfs, 'etc/secret'), 'secret\n')
    const planted = join(sandbox.directory, `planted-${++count}`)
    mkdirSync(planted)
    symlinkSync('/proc/sys/kernel/core_pattern', join(planted, 'null'))
    const mounts = [dockerMounts[0] as Mount, bind('/dev', planted)]
    const { stdout, status } = await sandbox.run(
      specOf(['cat', '/etc/secret'], { mounts, linux: { maskedPaths: ['/etc/secret'] } }),
    )
    expect([stdout, status.code]).toEqual(['', 0])
  })

  it('protect read-only paths', async () => {
    const readonlyPaths = ['/proc/sys', '/etc', '/nowhere']
    const script =
      'echo x 2>/dev/null >/proc/sys/net/ipv4/ip_forward || echo refused; touch /etc/x 2>/dev/null || echo refused'
    expect(await sandbox.sh(script, { linux: { readonlyPaths } })).toBe('refused\nrefused\n')
  })

  it('give the devices that every container has', async () => {
    const script = `stat -c '%t %T %F %a' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty
      for name in fd stdin stdout stderr ptmx; do readlink /dev/$name; done; echo x >/dev/null; head -c3 /dev/zero | wc -c`
    expect((await sandbox.sh(script)).trim().split('\n')).toEqual([
      ...['1 3', '1 5', '1 7', '1 8', '1 9', '5 0'].map((number) => `${number} character special file 666`),
      ...['/proc/self/fd', '/proc/self/fd/0', '/proc/self/fd/1', '/proc/self/fd/2', 'pts/ptmx', '3'],
    ])
  })

  it('give further devices, with owner and mode', async () => {
    const devices = [
      { path: '/dev/mine', type: 'c' as const, major: 1, minor: 5, fileMode: 0o640, uid: 1000, gid: 1001 },
      { path: '/dev/deep/pipe', type: 'p' as const, fileMode: 0o600 },
    ]
    const stdout = await sandbox.sh(`stat -c '%t %T %F %a %u %g' /dev/mine /dev/deep/pipe`, { linux: { devices } })
    expect(stdout).toBe('1 5 character special file 640 1000 1001\n0 0 fifo 600 0 0\n')
  })
})
