import { execFileSync } from 'node:child_process'
import { createReadStream, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { InvalidArgumentError, LayerError, LimitError } from '../../../src/errors.ts'
import { applyLayer } from '../../../src/layer/apply/apply.ts'
import type { TarEntry } from '../../../src/layer/tar/entry.ts'
import { TarReader } from '../../../src/layer/tar/reader.ts'
import { TarWriter } from '../../../src/layer/tar/writer.ts'
import { hasTools } from '../../store/support/tools.ts'
import { isRoot } from '../support/apply.ts'
import { mutate } from '../support/mutate.ts'
import { type ReadEntry, read } from '../support/read.ts'
import { tar } from '../support/tar.ts'
import { tree } from '../support/tree.ts'
import { newEntry, rewrite, write } from '../support/write.ts'

const directory = mkdtempSync(join(tmpdir(), 'oci-ts-writer-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const bytes = (...values: number[]): Buffer => Buffer.from(values)

const oddities: Readonly<Record<string, Partial<TarEntry>>> = {
  'a name of 100 bytes': { name: Buffer.from('n'.repeat(100)) },
  'a name that fits with a prefix': { name: Buffer.from(`${'p'.repeat(155)}/${'n'.repeat(100)}`) },
  'a directory whose name fits with a prefix': {
    type: 'directory',
    name: Buffer.from(`${'p'.repeat(154)}/${'n'.repeat(99)}/`),
  },
  'a name that is too long': { name: Buffer.from(`${'p'.repeat(156)}/${'n'.repeat(100)}`) },
  'a component that is too long': { name: Buffer.from('n'.repeat(101)) },
  'a directory whose last component is too long': { type: 'directory', name: Buffer.from(`a/${'n'.repeat(101)}/`) },
  'a name of 4000 bytes': { name: Buffer.from('abcdefghi/'.repeat(400).slice(0, -1)) },
  'a name beyond ASCII': { name: Buffer.from('grüße/日本') },
  'a name that is no UTF-8': { name: bytes(0x66, 0xff, 0xfe, 0x80) },
  'a name with a newline and a blank': { name: Buffer.from('a b\nc=d') },
  'a long symbolic link': { type: 'symlink', linkName: Buffer.from('t'.repeat(4000)) },
  'a symbolic link that is no UTF-8': { type: 'symlink', linkName: bytes(0x2f, 0xe4) },
  'a hard link': { type: 'hardlink', linkName: Buffer.from('a/b') },
  'a long hard link': { type: 'hardlink', linkName: Buffer.from('t'.repeat(101)) },
  'a character device': { type: 'character', deviceMajor: 4095, deviceMinor: 1_048_575 },
  'a block device': { type: 'block', deviceMajor: 8, deviceMinor: 1 },
  'a fifo': { type: 'fifo' },
  'the largest ids of ustar': { uid: 0o7777777, gid: 0o7777777 },
  'the largest ids of Linux': { uid: 4_294_967_294, gid: 4_294_967_294 },
  'all bits of the mode': { mode: 0o7777 },
  'a time to the nanosecond': { mtime: { seconds: 1_700_000_000, nanoseconds: 123_456_789 } },
  'a time with trailing zeros': { mtime: { seconds: 5, nanoseconds: 500_000_000 } },
  'a time before 1970': { mtime: { seconds: -1, nanoseconds: 0 } },
  'a time just before 1970': { mtime: { seconds: -1, nanoseconds: 999_999_999 } },
  'a fraction before 1970': { mtime: { seconds: -2, nanoseconds: 500_000_000 } },
  'a time beyond ustar': { mtime: { seconds: 0o100000000000, nanoseconds: 1 } },
  'a binary attribute': {
    xattrs: [{ name: 'security.capability', value: bytes(1, 0, 0, 2, 0x80, 0x0a, 0xff, 0x3d, 0) }],
  },
  'an empty attribute': { xattrs: [{ name: 'user.empty', value: bytes() }] },
  'an attribute whose record is 99 bytes, and would be 100 with its length': {
    xattrs: [{ name: 'user.x', value: Buffer.alloc(99 - 'SCHILY.xattr.user.x'.length - 5, 1) }],
  },
  'many attributes': {
    xattrs: Array.from({ length: 30 }, (_, i) => ({ name: `user.${10 + i}`, value: Buffer.alloc(i * 7, i) })),
  },
  'the name of an attribute beyond ASCII': { xattrs: [{ name: 'user.größe', value: bytes(1) }] },
}

describe('TarWriter', () => {
  it.each(Object.keys(oddities))('writes %s as it is read again', (name) => {
    const entry = newEntry(oddities[name])
    const [found, ...more] = read(write([entry]), 512)
    expect(more).toEqual([])
    expect(found).toEqual({ ...entry, content: Buffer.alloc(0), holes: [] })
  })

  it('writes plain ustar, to the byte, of what fits into it', () => {
    const written = write([
      newEntry({ name: Buffer.from('d/'), type: 'directory', mode: 0o755 }),
      [
        newEntry({ name: Buffer.from('d/f'), mode: 0o644, uid: 1, gid: 2, mtime: { seconds: 3, nanoseconds: 0 } }),
        'hello',
      ],
    ])
    const checksum = (header: Buffer): void => void header.write('\0 ', 154, 'latin1')
    const expected = tar(
      { name: 'd/', type: '5', mode: 0o755 },
      { name: 'd/f', content: 'hello', uid: 1, gid: 2, mtime: 3 },
    )
    for (const at of [0, 512]) checksum(expected.subarray(at))
    expect(written.equals(expected)).toBe(true)
  })

  it('pads content to blocks, and ends with two blocks of zeros', () => {
    for (const size of [0, 1, 511, 512, 513, 70_000]) {
      const written = write([[newEntry(), 'x'.repeat(size)]])
      expect(written.length % 512).toBe(0)
      expect(written.length).toBe(512 + Math.ceil(size / 512) * 512 + 1024)
      expect(read(written)[0]?.content.toString()).toBe('x'.repeat(size))
    }
  })

  it('announces sizes beyond 8 GiB', () => {
    const chunks: Buffer[] = []
    new TarWriter((chunk) => chunks.push(chunk)).entry(newEntry({ size: 2 ** 40 }))
    const sizes: number[] = []
    const ignore = (): void => {}
    const reader = new TarReader(
      { entry: (found) => sizes.push(found.size), data: ignore, hole: ignore, entryEnd: ignore },
      { maxContent: 2 ** 41 },
    )
    for (const chunk of chunks) reader.write(chunk)
    expect(sizes).toEqual([2 ** 40])
  })

  it('writes holes as zeros', () => {
    const chunks: Buffer[] = []
    const writer = new TarWriter((chunk) => chunks.push(chunk))
    writer.entry(newEntry({ size: 200_003 }))
    writer.hole(200_000)
    writer.data(Buffer.from('end'))
    writer.entryEnd()
    writer.end()
    expect(read(Buffer.concat(chunks))[0]?.content).toEqual(Buffer.concat([Buffer.alloc(200_000), Buffer.from('end')]))
  })

  it('does not depend on the order of attributes', () => {
    const [a, b] = [
      { name: 'user.a', value: bytes(1) },
      { name: 'user.b', value: bytes(2) },
    ]
    expect(write([newEntry({ xattrs: [a, b] })])).toEqual(write([newEntry({ xattrs: [b, a] })]))
  })

  it.each([
    ['an empty name', { name: bytes() }],
    ['a NUL in a name', { name: bytes(0x61, 0, 0x62) }],
    ['a NUL in a target', { type: 'symlink', linkName: bytes(0x61, 0) }],
    ['an attribute with an equals sign in its name', { xattrs: [{ name: 'user.a=b', value: bytes(1) }] }],
    ['a device number that no field holds', { type: 'block', deviceMajor: 2 ** 22 }],
  ] as const)('refuses %s', (_, wrong) => {
    expect(() => write([newEntry(wrong as Partial<TarEntry>)])).toThrow(LayerError)
  })

  it('refuses content that is not what was announced', () => {
    const writer = new TarWriter(() => {})
    writer.entry(newEntry({ size: 3 }))
    expect(() => writer.data(Buffer.from('four'))).toThrow(LayerError)
    const short = new TarWriter(() => {})
    short.entry(newEntry({ size: 3 }))
    short.data(Buffer.from('ab'))
    expect(() => short.entryEnd()).toThrow('1 bytes of its content are missing')
    expect(() => short.entry(newEntry())).toThrow(InvalidArgumentError)
    expect(() => short.end()).toThrow(InvalidArgumentError)
  })

  it('writes again what it has read, however the archive was changed', () => {
    const archive = write(Object.values(oddities).map((oddity) => newEntry(oddity)))
    let accepted = 0
    for (let seed = 0; seed < 400; seed += 1) {
      const mutant = mutate(archive, seed)
      const first = rewriteUnlessRefused(mutant)
      if (first === undefined) continue
      accepted += 1
      expect(read(first).map(comparable)).toEqual(read(mutant).map(comparable))
      expect(rewrite(first).equals(first)).toBe(true)
    }
    expect(accepted).toBeGreaterThan(40)
  })
})

/** Without what a writer does not keep: holes, and the order of attributes. */
function comparable({ xattrs, ...entry }: ReadEntry): object {
  return { ...entry, holes: [], xattrs: Object.fromEntries(xattrs.map(({ name, value }) => [name, value])) }
}

function rewriteUnlessRefused(archive: Buffer): Buffer | undefined {
  try {
    return rewrite(archive)
  } catch (error) {
    if (error instanceof LayerError || error instanceof LimitError) return undefined
    throw error
  }
}

describe.skipIf(!isRoot || !hasTools('tar', 'python3'))('other readers (skipped without root, tar and python3)', () => {
  // What a file system can hold, and is no second name of something else.
  const entries = Object.entries(oddities)
    .filter(([name]) => !/4000|beyond ustar|hard link|1970|empty|binary|prefix|100 bytes|long/.test(name))
    .map(([, oddity], index) =>
      newEntry({ ...oddity, name: Buffer.from(`${index}-${oddity.name?.toString().replaceAll('/', '-') ?? ''}`) }),
    )
  const odd = newEntry({ name: Buffer.from([0x66, 0xff, 0x80]) })
  const link = newEntry({ type: 'hardlink', name: Buffer.from('hard'), linkName: odd.name })
  const archive = join(directory, 'a.tar')

  it('GNU tar unpacks what was written as we do', async () => {
    writeFileSync(archive, write([...entries, odd, link]))
    const [ours, theirs] = ['ours', 'theirs'].map((name) => join(directory, name)) as [string, string]
    for (const path of [ours, theirs]) mkdirSync(path, { mode: 0o755 })
    const options = ['--xattrs', '--xattrs-include=*', '--numeric-owner']
    execFileSync('tar', ['-xpf', archive, ...options, '-C', theirs])
    await applyLayer(createReadStream(archive), ours)
    const without = ({ '.': _, ...found }: ReturnType<typeof tree>): object => found
    const found = without(tree(ours))
    expect(Object.keys(found).length).toBeGreaterThan(entries.length)
    expect(found).toEqual(without(tree(theirs)))
  })

  it('Python lists what was written', () => {
    writeFileSync(archive, write(Object.values(oddities).map((oddity) => newEntry({ ...oddity, size: 0 }))))
    const script = [
      'import sys, json, tarfile',
      'for m in tarfile.open(sys.argv[1], errors="surrogateescape"):',
      '  b = lambda s: s.encode("utf-8", "surrogateescape").hex()',
      '  print(json.dumps([b(m.name), b(m.linkname), m.uid, m.gid, m.mode, m.devmajor, m.devminor]))',
    ].join('\n')
    const lines = execFileSync('python3', ['-c', script, archive], { encoding: 'utf8' }).trim().split('\n')
    const listed = Object.values(oddities).map((oddity) => {
      const { name, linkName, uid, gid, mode, deviceMajor, deviceMinor } = newEntry(oddity)
      const bare = name.at(-1) === 0x2f ? name.subarray(0, -1) : name
      return [bare.toString('hex'), linkName.toString('hex'), uid, gid, mode, deviceMajor, deviceMinor]
    })
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual(listed)
  })
})
