import { describe, expect, it } from 'vitest'
import { DigestMismatchError, LayerError, LimitError, OciError, SyscallError } from '../../../src/errors.ts'
import type { LayerWarning } from '../../../src/layer/apply/planner.ts'
import { FakeRunner } from '../../../src/linux/fake.ts'
import { lines, plan } from '../support/apply.ts'
import { mutate } from '../support/mutate.ts'
import { tar } from '../support/tar.ts'

describe('the plan of a layer', () => {
  it('writes a file in the order that keeps set-user-id bits and capabilities', async () => {
    const pax = { 'SCHILY.xattr.security.capability': Buffer.from([1, 0, 0x80, 0xff]) }
    expect(await lines(tar({ name: 'f', content: 'x', mode: 0o4755, uid: 1, gid: 2, pax }))).toEqual([
      'openat f 755',
      'write f',
      'fchown f 1:2',
      'fsetxattr f security.capability',
      'fchmod f 4755',
      'utimensat f',
      'close',
    ])
  })

  it('makes no call more than needed for a plain file of root', async () => {
    expect(await lines(tar({ name: 'f', content: 'x' }))).toEqual(['openat f 644', 'write f', 'utimensat f', 'close'])
    expect(await lines(tar({ name: 'f' }))).toEqual(['openat f 644', 'utimensat f', 'close'])
  })

  it('gives directories their attributes when all entries are made', async () => {
    const archive = tar(
      { name: 'd/', type: '5', mode: 0o2555, uid: 3 },
      { name: 'd/e/', type: '5', mode: 0o700 },
      { name: 'd/e/f' },
    )
    expect(await lines(archive)).toEqual([
      'mkdirat d',
      'mkdirat d/e',
      'openat d/e/f 644',
      'utimensat d/e/f',
      'close',
      'fchownat d 3:0',
      'fchmodat d 2555',
      'utimensat d',
      'fchmodat d/e 700',
      'utimensat d/e',
    ])
  })

  it('makes symlinks, hard links, devices and fifos', async () => {
    const archive = tar(
      { name: 's', type: '2', linkName: '/any/where', uid: 9 },
      { name: 'f' },
      { name: 'h', type: '1', linkName: './f' },
      { name: 'null', type: '3', device: [1, 3], mode: 0o666 },
      { name: 'sda', type: '4', device: [8, 300], mode: 0o660 },
      { name: 'p', type: '6', mode: 0o600 },
    )
    expect(await lines(archive)).toEqual([
      'symlinkat s -> /any/where',
      'fchownat s 9:0',
      'utimensat s',
      'openat f 644',
      'utimensat f',
      'close',
      'linkat h = f',
      'mknodat null 20666 259',
      'utimensat null',
      `mknodat sda 60660 ${(300 & 0xff) | (8 << 8) | ((300 & ~0xff) << 12)}`,
      'utimensat sda',
      'mknodat p 10600 0',
      'utimensat p',
    ])
  })

  it('splits large files into pieces that later batches write', async () => {
    const { lines: all, calls } = await plan(tar({ name: 'big', content: Buffer.alloc(1_000_000, 'x') }))
    expect(all.slice(0, 3)).toEqual(['openat big 644', 'dup3', 'close'])
    const written = calls.filter((call) => call.name === 'write').map((call) => Number(call.args[2]))
    expect(written.reduce((sum, size) => sum + size, 0)).toBe(1_000_000)
    expect(new Set(calls.filter((call) => call.name === 'write').map((call) => call.args[0]))).toEqual(new Set([200]))
  })

  it('never puts more into a batch than a remote process takes', async () => {
    const fake = new FakeRunner()
    const entries = Array.from({ length: 60 }, (_, i) => ({ name: `f${i}`, content: Buffer.alloc(60_000, 'x') }))
    await plan(tar(...entries), { fake })
    expect(fake.batches.length).toBeGreaterThan(3)
    expect(fake.names.filter((name) => name === 'openat')).toHaveLength(60)
  })

  it('keeps names that are no UTF-8 as bytes', async () => {
    const name = Buffer.from([0x66, 0xff])
    const { calls } = await plan(tar({ name, content: 'x' }, { name: 's', type: '2', linkName: name }))
    const bytes = Buffer.concat([name, Buffer.from('\0')])
    expect(calls.find((call) => call.name === 'openat')?.args[1]).toEqual(bytes)
    expect(calls.find((call) => call.name === 'symlinkat')?.args[0]).toEqual(bytes)
  })

  it('cleans names: absolute, dots, slashes, and .. that stays inside', async () => {
    const names = ['/a', './b', 'c//d', '././e', 'x/../f', '/./g/']
    for (const [name, path] of names.map((name, i) => [name, ['a', 'b', 'c/d', 'e', 'f', 'g'][i]])) {
      expect((await lines(tar({ name: name as string }))).find((line) => line.startsWith('openat'))).toBe(
        `openat ${path} 644`,
      )
    }
  })

  describe('replaces', () => {
    it('a file by unlinking it, so that its other names keep their content', async () => {
      const archive = tar(
        { name: 'a', content: '1' },
        { name: 'b', type: '1', linkName: 'a' },
        { name: 'a', content: '2' },
      )
      const calls = await lines(archive)
      expect(calls.slice(calls.indexOf('linkat b = a'))).toEqual([
        'linkat b = a',
        'unlinkat a',
        'openat a 644',
        'write a',
        'utimensat a',
        'close',
      ])
    })

    it('a directory and all that is in it by a file', async () => {
      const archive = tar({ name: 'd/e/f' }, { name: 'd', content: '' })
      expect(await lines(archive)).toEqual([
        'mkdirat d',
        'mkdirat d/e',
        'openat d/e/f 644',
        'utimensat d/e/f',
        'close',
        'unlinkat d/e/f',
        'unlinkat d/e',
        'unlinkat d',
        'openat d 644',
        'utimensat d',
        'close',
      ])
    })

    it('a symlink by a directory, without following it', async () => {
      const archive = tar({ name: 'd', type: '2', linkName: '/etc' }, { name: 'd/', type: '5' }, { name: 'd/passwd' })
      expect(await lines(archive)).toContain('unlinkat d')
      expect(await lines(archive)).toContain('openat d/passwd 644')
    })

    it('a file that stands where a parent directory is needed', async () => {
      expect(await lines(tar({ name: 'a' }, { name: 'a/b' }))).toEqual([
        'openat a 644',
        'utimensat a',
        'close',
        'unlinkat a',
        'mkdirat a',
        'openat a/b 644',
        'utimensat a/b',
        'close',
      ])
    })

    it('the attributes of a directory, and keeps what is in it', async () => {
      const archive = tar(
        { name: 'd/', type: '5', mode: 0o700 },
        { name: 'd/f' },
        { name: 'd', type: '5', mode: 0o711 },
      )
      const calls = await lines(archive)
      expect(calls.filter((line) => line.startsWith('mkdirat'))).toEqual(['mkdirat d'])
      expect(calls).toContain('fchmodat d 711')
      expect(calls).not.toContain('fchmodat d 700')
    })
  })

  describe('resolves parents through symlinks of the layer', () => {
    it.each([
      ['relative', 'usr/lib', 'usr/lib/f'],
      ['absolute', '/usr/lib', 'usr/lib/f'],
      ['beyond the root', '../../../usr/lib', 'usr/lib/f'],
      ['to nothing yet', '/made/for/it', 'made/for/it/f'],
      ['to the root', '/', 'f'],
      ['to itself by dot', '.', 'f'],
    ])('%s', async (_, linkName, path) => {
      const archive = tar({ name: 'usr/lib/', type: '5' }, { name: 'lib', type: '2', linkName }, { name: 'lib/f' })
      expect(await lines(archive)).toContain(`openat ${path} 644`)
    })

    it('and gives up on loops', async () => {
      const archive = tar(
        { name: 'a', type: '2', linkName: 'b' },
        { name: 'b', type: '2', linkName: 'a' },
        { name: 'a/f' },
      )
      await expect(plan(archive)).rejects.toThrow(/too many symbolic links/)
    })

    it('for hard link targets too, but not in the last component', async () => {
      const archive = tar(
        { name: 'd/f' },
        { name: 'l', type: '2', linkName: 'd' },
        { name: 's', type: '2', linkName: '/etc/shadow' },
        { name: 'h1', type: '1', linkName: 'l/f' },
        { name: 'h2', type: '1', linkName: 's' },
      )
      expect((await lines(archive)).filter((line) => line.startsWith('linkat'))).toEqual([
        'linkat h1 = d/f',
        'linkat h2 = s',
      ])
    })
  })

  describe('attributes', () => {
    it('that overlayfs would act on are escaped', async () => {
      const pax = { 'SCHILY.xattr.trusted.overlay.opaque': 'y', 'SCHILY.xattr.user.overlay.redirect': '/etc' }
      const calls = await lines(tar({ name: 'd', type: '5', pax }))
      expect(calls.filter((line) => line.startsWith('lsetxattr'))).toEqual([
        'lsetxattr d trusted.overlay.overlay.opaque',
        'lsetxattr d user.overlay.overlay.redirect',
      ])
    })

    it('of the machine the image was made on are left out', async () => {
      const pax = { 'SCHILY.xattr.security.selinux': 'u:r:t', 'SCHILY.xattr.system.nfs4_acl': 'x' }
      expect((await lines(tar({ name: 'f', pax }))).join()).not.toContain('setxattr')
    })

    it('that the file system does not support are a warning', async () => {
      const warnings: LayerWarning[] = []
      const fake = new FakeRunner().fail('fsetxattr', 'ENOTSUP')
      const pax = { 'SCHILY.xattr.user.x': '1' }
      await plan(tar({ name: 'f', pax }), { fake, onWarning: (warning) => warnings.push(warning) })
      expect(warnings).toEqual([{ entry: 'f', message: expect.stringContaining('user.x is not set') }])
    })

    it('that can not be set for another reason are an error', async () => {
      const fake = new FakeRunner().fail('fsetxattr', 'ENOSPC')
      const pax = { 'SCHILY.xattr.user.x': '1' }
      const failed = expect(plan(tar({ name: 'f', pax }), { fake })).rejects
      await failed.toThrow(SyscallError)
    })

    it.each([
      ['too long', { 'SCHILY.xattr.user.x': Buffer.alloc(65_537, 'x') }],
      ['with too long a name', { [`SCHILY.xattr.user.${'x'.repeat(300)}`]: '1' }],
    ])('%s are refused', async (_, pax) => {
      await expect(plan(tar({ name: 'f', pax }))).rejects.toThrow(LayerError)
    })

    it('of the root come from its entry, or are 0755', async () => {
      expect((await plan(tar({ name: './', type: '5', mode: 0o700, uid: 5 }))).lines).toEqual([
        'fchownat / 5:0',
        'fchmodat / 700',
        'utimensat /',
      ])
      expect((await plan(tar({ name: 'f' }))).lines).toContain('fchmodat / 755')
    })

    it('of directories without an entry come from lower layers', async () => {
      const asked: string[] = []
      const calls = await lines(tar({ name: 'tmp/x/f' }), {
        async inherit(path) {
          asked.push(path.toString())
          if (path.toString() !== 'tmp') return undefined
          return { uid: 1, gid: 2, mode: 0o1777, mtime: { seconds: 3, nanoseconds: 4 } }
        },
      })
      expect(asked).toEqual(['', 'tmp', 'tmp/x'])
      expect(calls.slice(-3)).toEqual(['fchownat tmp 1:2', 'fchmodat tmp 1777', 'utimensat tmp'])
    })

    it('of many directories without an entry are asked for together, and set in order', async () => {
      let waiting = 0
      let most = 0
      const names = Array.from({ length: 100 }, (_, index) => `d${index}`)
      const calls = await lines(tar(...names.map((name) => ({ name: `${name}/f` }))), {
        async inherit() {
          most = Math.max(most, ++waiting)
          await new Promise((resolve) => setImmediate(resolve))
          waiting--
          return { uid: 0, gid: 0, mode: 0o755, mtime: { seconds: 3, nanoseconds: 4 } }
        },
      })
      expect(most).toBe(32)
      const times = calls.filter((line) => /^utimensat (d\d+|\/)$/.test(line))
      expect(times).toEqual(['/', ...names].map((name) => `utimensat ${name}`))
    })

    it('set no owner where there is but one', async () => {
      const rights = { userNamespace: true, singleOwner: true }
      const archive = tar({ name: 'f', uid: 1000, gid: 1000 }, { name: 'd', type: '5', uid: 7 })
      expect((await lines(archive, { rights })).join()).not.toContain('chown')
    })
  })

  it('puts an empty file in the place of a device in a user namespace, with a warning', async () => {
    const warnings: LayerWarning[] = []
    const rights = { userNamespace: true, singleOwner: true }
    const archive = tar({ name: 'null', type: '3', device: [1, 3], mode: 0o666 })
    const calls = await lines(archive, { rights, onWarning: (warning) => warnings.push(warning) })
    expect(calls).toEqual(['openat null 0', 'utimensat null', 'close'])
    expect(warnings).toHaveLength(1)
  })

  describe('refuses', () => {
    it.each([
      ['a name that leads out', { name: '../f' }],
      ['a name that leads out later', { name: 'a/../../f' }],
      ['a root that is a file', { name: '.' }],
      ['a root that is a symlink', { name: './', type: '2', linkName: '/etc' }],
      ['a hard link to what is not there', { name: 'h', type: '1', linkName: 'missing' }],
      ['a hard link that leads out', { name: 'h', type: '1', linkName: '../../etc/shadow' }],
      ['a hard link to a directory', { name: 'h', type: '1', linkName: '.' }],
      ['a symlink to nothing', { name: 's', type: '2', linkName: '' }],
      ['a device number that no device has', { name: 'd', type: '3', device: [4096, 0] as const }],
      ['a device number beyond the kernel', { name: 'd', type: '4', device: [1, 1_048_576] as const }],
      ['an owner out of range', { name: 'f', pax: { uid: '4294967295' } }],
      ['a component that is too long', { name: 'x', pax: { path: 'y'.repeat(256) } }],
      ['a path that is too long', { name: 'x', pax: { path: `${'y'.repeat(200)}/`.repeat(30) } }],
    ])('%s', async (_, entry) => {
      const failed = plan(tar(entry))
      await expect(failed).rejects.toThrow(LayerError)
      await expect(failed).rejects.toMatchObject({ code: 'ERR_OCI_LAYER', entry: expect.any(String) })
    })

    it('a hard link to a file in the directory that it replaces', async () => {
      await expect(plan(tar({ name: 'd/f' }, { name: 'd', type: '1', linkName: 'd/f' }))).rejects.toThrow(LayerError)
    })

    it('a path that is too deep', async () => {
      await expect(plan(tar({ name: 'x', pax: { path: 'd/'.repeat(600) } }))).rejects.toThrow(LimitError)
      await expect(plan(tar({ name: 'a/b/c/d' }), { limits: { maxDepth: 2 } })).rejects.toThrow(LimitError)
    })

    it('a layer that is not what its DiffID says, and says both digests', async () => {
      const diffId = `sha256:${'0'.repeat(64)}` as const
      const failed = plan(tar({ name: 'f' }), { diffId })
      await expect(failed).rejects.toThrow(DigestMismatchError)
    })
  })

  it('takes a hard link to itself for done', async () => {
    expect(await lines(tar({ name: 'f' }, { name: 'f', type: '1', linkName: 'f' }))).toHaveLength(3)
  })

  it('treats a short write as a full disk', async () => {
    const fake = new FakeRunner().answer('write', { value: 3 })
    await expect(plan(tar({ name: 'f', content: 'hello' }), { fake })).rejects.toMatchObject({
      errnoName: 'ENOSPC',
      path: 'f',
    })
  })

  it('stops at the call that fails and names it', async () => {
    const fake = new FakeRunner().fail('mkdirat', 'EROFS')
    await expect(plan(tar({ name: 'd/', type: '5' }, { name: 'e' }), { fake })).rejects.toMatchObject({
      syscall: 'mkdirat',
      path: 'd',
    })
  })

  it('hashes what stands behind the end of the archive', async () => {
    const one = await plan(tar({ name: 'f' }))
    const two = await plan(Buffer.concat([tar({ name: 'f' }), Buffer.from('more')]))
    expect(two.applied.diffId).not.toBe(one.applied.diffId)
    expect(two.lines).toEqual(one.lines)
  })

  it('of a mutated archive is made, or refused with an OciError', async () => {
    const base = tar(
      { name: 'd/', type: '5' },
      { name: 'd/f', content: 'x', pax: { 'SCHILY.xattr.user.a': 'b' } },
      { name: 'l', type: '2', linkName: 'd' },
      { name: 'l/.wh.f' },
      { name: 'h', type: '1', linkName: 'l/f' },
      { name: 'd', type: '2', linkName: '../..' },
      { name: 'd/../f' },
    )
    for (let round = 0; round < 400; round += 1) {
      const failure = await plan(mutate(base, round)).catch((error: unknown) => error)
      if (failure instanceof Error) expect(failure).toBeInstanceOf(OciError)
    }
  })
})
