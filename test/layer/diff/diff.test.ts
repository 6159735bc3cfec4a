import { execFileSync } from 'node:child_process'
import { chownSync, mkdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { UnsupportedError } from '../../../src/errors.ts'
import { lsetxattr } from '../../../src/linux/calls/files.ts'
import { perform } from '../../../src/linux/local.ts'
import { hasTools } from '../../store/support/tools.ts'
import { isRoot, Scratch } from '../support/apply.ts'
import { copyTree, inOverlay, merge, packChanges, packTree, packUpper } from '../support/diff.ts'
import { read } from '../support/read.ts'
import { type TestEntry, tar } from '../support/tar.ts'
import { tree } from '../support/tree.ts'

const scratch = new Scratch()
afterAll(() => scratch.clean())

/** A tree with everything that a tree can have. */
const everything: readonly TestEntry[] = [
  { name: './', type: '5', mode: 0o751, uid: 3, gid: 4, mtime: 1_000 },
  { name: 'bin/', type: '5', mode: 0o2755, gid: 7, mtime: 2_000 },
  { name: 'bin/su', content: 'su', mode: 0o4755, mtime: 3_000 },
  { name: 'bin/hard', type: '1', linkName: 'bin/su' },
  { name: 'big', content: 'x'.repeat(700_001), pax: { mtime: '5.123456789' } },
  {
    name: 'caps',
    content: 'c',
    pax: { 'SCHILY.xattr.security.capability': Buffer.from(`0100000200040000${'00'.repeat(12)}`, 'hex') },
  },
  { name: 'empty', content: '' },
  { name: 'fifo', type: '6', mode: 0o620 },
  { name: Buffer.from([0x66, 0xff, 0x80]), content: 'odd' },
  { name: 'link', type: '2', linkName: 'bin/su', mtime: 9 },
  { name: 'linked-link', type: '1', linkName: 'link' },
  { name: 'null', type: '3', device: [1, 3], mode: 0o666 },
  { name: 'disk', type: '4', device: [259, 1_048_575], mode: 0o660, gid: 6 },
  { name: 'owned', content: 'o', uid: 4_000_000_000, gid: 100_000 },
  { name: 'tmp/', type: '5', mode: 0o1777, mtime: 5 },
  ...Array.from(
    { length: 450 },
    (_, i): TestEntry => ({ name: `many/${i}`, content: `${i}`.repeat(i % 200), mtime: i }),
  ),
  {
    name: 'user',
    content: 'u',
    pax: { 'SCHILY.xattr.user.a': Buffer.from([0, 0xff, 0x0a]), 'SCHILY.xattr.trusted.b': 'b' },
  },
  { name: `${'deep/'.repeat(60)}f`, content: 'deep' },
]

const missing = isRoot && hasTools('unshare', 'setcap') ? undefined : 'needs root, unshare and setcap'

describe.skipIf(missing)(`a layer of a tree (${missing ?? 'real ones'})`, () => {
  it('applied makes the tree again, in every attribute', async () => {
    const first = await scratch.apply(tar(...everything))
    const archive = await packTree(first)
    const second = await scratch.apply(archive)
    const made = tree(second)
    expect(Object.keys(made).length).toBeGreaterThan(480)
    expect(made).toEqual(tree(first))
    expect((await packTree(second)).equals(archive)).toBe(true)
  })

  it('is read from the tree, not from what links in it lead to', async () => {
    const directory = scratch.directory()
    symlinkSync('/etc', join(directory, 'etc'))
    symlinkSync('/etc/passwd', join(directory, 'passwd'))
    const entries = read(await packTree(directory))
    expect(entries.map(({ name, type }) => [name.toString(), type])).toEqual([
      ['./', 'directory'],
      ['etc', 'symlink'],
      ['passwd', 'symlink'],
    ])
  })

  it('has no times later than it may', async () => {
    const directory = await scratch.apply(tar({ name: 'old', mtime: 5 }, { name: 'new', pax: { mtime: '2000.5' } }))
    const times = read(await packTree(directory, { latest: 1_000 })).map(({ mtime }) => mtime)
    expect(times).toEqual([
      { seconds: 1_000, nanoseconds: 0 },
      { seconds: 1_000, nanoseconds: 0 },
      { seconds: 5, nanoseconds: 0 },
    ])
  })

  it('maps ids back to those of the container', async () => {
    const directory = scratch.directory()
    for (const [name, id] of [
      ['root', 100_000],
      ['user', 101_000],
      ['outside', 99_999],
    ] as const) {
      writeFileSync(join(directory, name), '')
      chownSync(join(directory, name), id, id + 1)
    }
    const maps = [{ containerID: 0, hostID: 100_000, size: 65_536 }]
    const archive = await packTree(directory, { uidMappings: maps, gidMappings: maps })
    expect(
      read(archive)
        .map(({ name, uid, gid }) => [name.toString(), uid, gid])
        .slice(1),
    ).toEqual([
      ['outside', 99_999, 0],
      ['root', 0, 1],
      ['user', 1000, 1001],
    ])
  })

  it('leaves out sockets and names of whiteouts, and says so', async () => {
    const directory = scratch.directory()
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(join(directory, 'socket'), resolve))
    writeFileSync(join(directory, '.wh.file'), '')
    const warnings: string[] = []
    const entries = read(
      await packTree(directory, { onWarning: ({ path, message }) => warnings.push(`${path}: ${message}`) }),
    )
    server.close()
    expect(entries).toHaveLength(1)
    expect(warnings).toEqual([
      "/.wh.file: a layer can't hold a name that begins with .wh.",
      "/socket: a layer can't hold a socket",
    ])
  })

  it('leaves out attributes with an equals sign in their name, and says so', async () => {
    const directory = scratch.directory()
    const file = join(directory, 'file')
    writeFileSync(file, '')
    for (const name of ['user.a=b', 'user.kept']) perform(lsetxattr(file, name, Buffer.from('value')))
    const warnings: string[] = []
    const entries = read(
      await packTree(directory, { onWarning: ({ path, message }) => warnings.push(`${path}: ${message}`) }),
    )
    expect(entries.at(-1)?.xattrs.map(({ name }) => name)).toEqual(['user.kept'])
    expect(warnings).toEqual([
      "/file: a layer can't hold the extended attribute user.a=b: there is an equals sign in its name",
    ])
  })

  it('has file capabilities without the namespace that they were set in', async () => {
    const directory = scratch.directory()
    const path = join(directory, 'ping')
    writeFileSync(path, '')
    // The kernel makes a third version of what a user namespace sets; that of namespace 1000 is written by hand.
    perform(lsetxattr(path, 'security.capability', Buffer.from(`0100000300200000${'00'.repeat(12)}e8030000`, 'hex')))
    const [, found] = read(await packTree(directory))
    expect(found?.xattrs.map(({ value }) => value.toString('hex'))).toEqual([`0100000200200000${'00'.repeat(12)}`])
  })
})

const change = [
  'echo new > added',
  'rm removed',
  'rm -r gone',
  'rm -r again && mkdir again && echo fresh > again/fresh',
  'echo more >> file',
  'chmod 700 directory',
  'ln file hard && ln -s file soft && mknod dev c 5 1',
  'mkdir -p deep/down && touch deep/down/here && mv moved elsewhere',
  'rm turned && mkdir turned && rm -r into && echo file > into',
  'rm -r nested/opaque && mkdir -p nested/opaque/sub && echo 1 > nested/opaque/sub/kept',
].join(' && ')

const base: readonly TestEntry[] = [
  { name: './', type: '5', mode: 0o755, mtime: 7 },
  { name: 'removed', content: '1' },
  { name: 'gone/', type: '5', mode: 0o755 },
  { name: 'gone/file' },
  { name: 'again/', type: '5', mode: 0o755 },
  { name: 'again/old' },
  { name: 'file', content: 'content', mtime: 3, pax: { 'SCHILY.xattr.user.x': 'kept' } },
  { name: 'directory/', type: '5', mode: 0o755 },
  { name: 'directory/inside' },
  { name: 'moved', content: 'm' },
  { name: 'turned', content: 't' },
  { name: 'into/', type: '5', mode: 0o755 },
  { name: 'into/a' },
  { name: 'nested/opaque/sub/old' },
  { name: 'nested/opaque/other' },
  { name: 'untouched', content: 'u', mtime: 77 },
]

describe.skipIf(missing)(`a layer of changes (${missing ?? 'real ones'})`, () => {
  it('of an overlay, applied on what was below, is what the overlay showed', async () => {
    const lower = await scratch.apply(tar(...base), { bottom: true })
    const { upper } = inOverlay(scratch, [lower], change)
    const archive = await packUpper(upper)
    const names = read(archive).map(({ name }) => name.toString())
    for (const name of ['.wh.removed', '.wh.gone', 'again/.wh..wh..opq', '.wh.moved', 'elsewhere', 'hard', 'dev']) {
      expect(names).toContain(name)
    }
    expect(names.filter((name) => /untouched|inside/.test(name))).toEqual([])
    const applied = await scratch.apply(archive)
    expect(tree(merge(scratch, [applied, lower]))).toEqual(tree(merge(scratch, [upper, lower])))
    expect((await packUpper(applied)).equals(archive)).toBe(true)
  })

  it('between two trees, applied on the first, is the second', async () => {
    const before = await scratch.apply(tar(...base), { bottom: true })
    const after = copyTree(scratch, before)
    execFileSync('sh', ['-ec', change], { cwd: after })
    const archive = await packChanges(before, after)
    const names = read(archive).map(({ name }) => name.toString())
    expect(names).toContain('nested/opaque/.wh.other')
    expect(names.filter((name) => /untouched|inside/.test(name))).toEqual([])
    const applied = await scratch.apply(archive)
    expect(tree(merge(scratch, [applied, before]))).toEqual(tree(after))
  })

  it('between a tree and itself is empty', async () => {
    const directory = await scratch.apply(tar(...everything.filter(({ type }) => type !== '1')))
    expect(read(await packChanges(directory, copyTree(scratch, directory)))).toEqual([])
  })

  it('compares content where the times were set to whole seconds', async () => {
    const before = scratch.directory()
    for (const [name, content] of [
      ['small', 'one'],
      ['large', 'x'.repeat(400_000)],
    ] as const) {
      writeFileSync(join(before, name), content)
      utimesSync(join(before, name), 5, 5)
    }
    const after = copyTree(scratch, before)
    expect(read(await packChanges(before, after))).toEqual([])
    writeFileSync(join(after, 'small'), 'two')
    writeFileSync(join(after, 'large'), `${'x'.repeat(399_999)}y`)
    for (const name of ['small', 'large']) utimesSync(join(after, name), 5, 5)
    expect(read(await packChanges(before, after)).map(({ name }) => name.toString())).toEqual(['large', 'small'])
  })

  it('keeps what looks like a mark of overlayfs in an image', async () => {
    const forged = { 'SCHILY.xattr.trusted.overlay.opaque': 'y', 'SCHILY.xattr.user.overlay.redirect': '/etc' }
    const applied = await scratch.apply(tar({ name: 'd/', type: '5', mode: 0o755, pax: forged }))
    const [, found] = read(await packUpper(applied))
    expect(found?.xattrs.map(({ name, value }) => `${name}=${value}`)).toEqual([
      'trusted.overlay.opaque=y',
      'user.overlay.redirect=/etc',
    ])
    expect(read(await packUpper(applied)).map(({ name }) => name.toString())).toEqual(['./', 'd/'])
  })

  it('is refused when overlayfs has only a part of a directory', async () => {
    const upper = scratch.directory()
    mkdirSync(join(upper, 'renamed'))
    perform(lsetxattr(join(upper, 'renamed'), 'trusted.overlay.redirect', Buffer.from('old')))
    await expect(packUpper(upper)).rejects.toThrow(UnsupportedError)
  })

  it('goes on when a directory goes away while it is read', async () => {
    const directory = scratch.directory()
    for (let i = 0; i < 300; i += 1) {
      mkdirSync(join(directory, `d${i}`))
      writeFileSync(join(directory, `d${i}`, 'f'), 'x'.repeat(1000))
    }
    const packed = packTree(directory)
    for (let i = 299; i >= 100; i -= 1) rmSync(join(directory, `d${i}`), { recursive: true })
    const entries = read(await packed)
    expect(entries.length).toBeGreaterThan(200)
    expect(new Set(entries.map(({ name }) => name.toString())).size).toBe(entries.length)
  })
})
