import { execFileSync } from 'node:child_process'
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { InvalidArgumentError, LayerError, LimitError } from '../../../src/errors.ts'
import { mutate } from '../support/mutate.ts'
import { read, readOne } from '../support/read.ts'
import { base256, endMarker, entry, paxHeader, tar } from '../support/tar.ts'

describe('TarReader', () => {
  it('reads every type of entry with its attributes', () => {
    const entries = read(
      tar(
        { name: 'dir/', type: '5', mode: 0o1777, uid: 1, gid: 2, mtime: 1_700_000_000 },
        { name: 'dir/file', content: 'hello', mode: 0o4755 },
        { name: 'sym', type: '2', linkName: '../else where' },
        { name: 'hard', type: '1', linkName: 'dir/file' },
        { name: 'null', type: '3', device: [1, 3] },
        { name: 'disk', type: '4', device: [4095, 1048575] },
        { name: 'pipe', type: '6' },
        { name: 'contiguous', type: '7', content: 'x' },
      ),
    )
    expect(entries.map((e) => [e.type, e.name.toString(), e.content.toString()])).toEqual([
      ['directory', 'dir/', ''],
      ['file', 'dir/file', 'hello'],
      ['symlink', 'sym', ''],
      ['hardlink', 'hard', ''],
      ['character', 'null', ''],
      ['block', 'disk', ''],
      ['fifo', 'pipe', ''],
      ['file', 'contiguous', 'x'],
    ])
    expect(entries[0]).toMatchObject({
      mode: 0o1777,
      uid: 1,
      gid: 2,
      mtime: { seconds: 1_700_000_000, nanoseconds: 0 },
    })
    expect(entries[1]?.mode).toBe(0o4755)
    expect(entries[2]?.linkName.toString()).toBe('../else where')
    expect(entries[3]?.linkName.toString()).toBe('dir/file')
    expect(entries[5]).toMatchObject({ deviceMajor: 4095, deviceMinor: 1048575 })
  })

  it.each([1, 7, 511, 512, 513, 1000])('gives the same for chunks of %i bytes', (size) => {
    const archive = tar(
      { name: 'a', content: Buffer.alloc(1500, 'a'), pax: { 'SCHILY.xattr.user.x': 'y'.repeat(700) } },
      { name: 'b/', type: '5' },
      { name: 'L', type: 'L', content: `${'long/'.repeat(60)}name\0` },
      { name: 'short', content: Buffer.alloc(512, 'b') },
      { name: 'c' },
    )
    expect(read(archive, size)).toEqual(read(archive))
  })

  it.each([1, 2, 3])(
    'gives the same for a chunk that lies %i bytes off an even address, and still sees what is damaged',
    (offset) => {
      const archive = tar({ name: 'a', content: 'x', pax: { mtime: '1.5' } }, { name: 'b/', type: '5' })
      const there = Buffer.from(new ArrayBuffer(archive.length + offset), offset)
      archive.copy(there)
      expect(read(there)).toEqual(read(archive))
      there[1024] = (there[1024] as number) ^ 1
      expect(() => read(there)).toThrow(/wrong checksum/)
    },
  )

  it('reads no more of a header about the next entry than its size', () => {
    const header = paxHeader({ path: 'named' })
    header.write('nonsense', 100, 'latin1')
    header.write('        ', 148, 'latin1')
    const sum = header.subarray(0, 512).reduce((all, byte) => all + byte, 0)
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
    expect(readOne(Buffer.concat([header, tar({ name: 'f' })])).name.toString()).toBe('named')
  })

  it('keeps names that are no UTF-8', () => {
    const name = Buffer.from([0x66, 0xff, 0xfe, 0x2f, 0xe4])
    expect(readOne(tar({ name })).name).toEqual(name)
    expect(readOne(tar({ name: 'x', pax: { path: name } })).name).toEqual(name)
    expect(readOne(tar({ name: 'x', type: '2', linkName: name })).linkName).toEqual(name)
  })

  it('joins prefix and name in ustar and star, and not in GNU archives', () => {
    expect(readOne(tar({ name: 'name', prefix: 'some/prefix' })).name.toString()).toBe('some/prefix/name')
    expect(readOne(tar({ name: 'name', prefix: 'p', format: 'star' })).name.toString()).toBe('p/name')
    expect(readOne(tar({ name: 'name', prefix: 'atime', format: 'gnu' })).name.toString()).toBe('name')
  })

  it('reads V7 archives, where a slash at the end marks a directory', () => {
    const entries = read(
      tar(
        { name: 'd/', type: '\0', format: 'v7', mode: 0o700 },
        { name: 'd/f', type: '\0', format: 'v7', content: 'x' },
      ),
    )
    expect(entries.map((e) => e.type)).toEqual(['directory', 'file'])
  })

  it('takes content to be absent from everything that is no file, whatever its size says', () => {
    const entries = read(tar({ name: 'd', type: '5', size: 512 }, { name: 'h', type: '1', size: 9, linkName: 'x' }))
    expect(entries.map((e) => [e.name.toString(), e.size])).toEqual([
      ['d', 0],
      ['h', 0],
    ])
  })

  it('accepts checksums over signed bytes', () => {
    const block = tar({ name: Buffer.from([0xe4, 0xf6]) })
    const sum = Number.parseInt(block.toString('latin1', 148, 154), 8) - 2 * 256
    block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
    expect(readOne(block).name.length).toBe(2)
  })

  it('adds up the largest bytes', () => {
    const block = tar({ name: Buffer.alloc(100, 0xff) })
    // What is there means nothing in a V7 header.
    block.fill(0xff, 257, 512).fill(' ', 148, 156)
    const sum = block.subarray(0, 512).reduce((total, byte) => total + byte, 0)
    block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
    expect(readOne(block).name).toEqual(Buffer.alloc(100, 0xff))
  })

  describe('extended headers', () => {
    it('override path, linkpath, size, ids and times', () => {
      const e = readOne(
        tar({
          name: 'short',
          size: 0,
          pax: {
            path: 'p/'.repeat(100),
            linkpath: 'not used',
            size: '3',
            uid: '4000000000',
            gid: '3000000',
            mtime: '1234567890.987654321',
          },
          content: 'abc',
        }),
      )
      expect(e).toMatchObject({
        uid: 4_000_000_000,
        gid: 3_000_000,
        size: 3,
        mtime: { seconds: 1234567890, nanoseconds: 987654321 },
      })
      expect(e.name.toString()).toBe('p/'.repeat(100))
      expect(e.content.toString()).toBe('abc')
    })

    it('keep values of extended attributes as bytes', () => {
      const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex')
      const hostile = Buffer.from([0x80, 0xff, 0x00, 0x0a, 0x3d, 0x31])
      const e = readOne(
        tar({ name: 'f', pax: { 'SCHILY.xattr.security.capability': capability, 'SCHILY.xattr.user.ü': hostile } }),
      )
      expect(e.xattrs).toEqual([
        { name: 'security.capability', value: capability },
        { name: 'user.ü', value: hostile },
      ])
    })

    it('of one entry do not reach the next', () => {
      const entries = read(tar({ name: 'a', pax: { uid: '7', 'SCHILY.xattr.user.x': '1' } }, { name: 'b' }))
      expect(entries[1]).toMatchObject({ uid: 0, xattrs: [] })
    })

    it('with an empty value fall back to the header', () => {
      expect(
        readOne(
          tar({
            name: 'f',
            uid: 5,
            pax: [
              ['uid', '7'],
              ['uid', ''],
            ],
          }),
        ).uid,
      ).toBe(5)
    })

    it('have no effect when they are global', () => {
      const archive = Buffer.concat([paxHeader({ uid: '7', path: 'other' }, 'g'), entry({ name: 'f' }), endMarker])
      expect(readOne(archive)).toMatchObject({ uid: 0, name: Buffer.from('f') })
    })

    it('count times before 1970 backwards', () => {
      expect(readOne(tar({ name: 'f', pax: { mtime: '-1.25' } })).mtime).toEqual({
        seconds: -2,
        nanoseconds: 750_000_000,
      })
      expect(readOne(tar({ name: 'f', pax: { mtime: '-3' } })).mtime).toEqual({ seconds: -3, nanoseconds: 0 })
    })

    it.each([
      ['no length', Buffer.from('path=x\n')],
      ['a length beyond the header', Buffer.from('99 path=x\n')],
      ['no equals sign', Buffer.from('9 pathxx\n')],
      ['no newline at the end', Buffer.from('9 path=xy')],
      ['a length that is too short', Buffer.from('4 path=x\n')],
      ['a NUL in a path', Buffer.from('10 path=\0\n')],
      ['a number that is none', Buffer.from('10 uid=-1\n')],
      ['a time that is none', Buffer.from('12 mtime=x\n')],
      ['an attribute without a name', Buffer.from('18 SCHILY.xattr.=\n')],
    ])('with %s are refused', (_, body) => {
      const archive = Buffer.concat([entry({ name: 'h', type: 'x', content: body }), entry({ name: 'f' }), endMarker])
      expect(() => read(archive)).toThrow(LayerError)
    })
  })

  describe('GNU extensions', () => {
    it('bring long names and long link targets', () => {
      const name = `${'n'.repeat(90)}/`.repeat(4)
      const target = `../${'t'.repeat(300)}`
      const e = readOne(
        tar(
          { name: '././@LongLink', type: 'K', content: `${target}\0` },
          { name: '././@LongLink', type: 'L', content: `${name}\0` },
          { name: 'cut', type: '2', linkName: 'cut', format: 'gnu' },
        ),
      )
      expect(e.name.toString()).toBe(name)
      expect(e.linkName.toString()).toBe(target)
    })

    it('bring numbers in base 256, also negative times', () => {
      const e = readOne(
        tar({
          name: 'f',
          format: 'gnu',
          patch(header) {
            base256(header, 4_294_967_294, 108, 8)
            base256(header, 2_097_152, 116, 8)
            base256(header, -86_400, 136, 12)
          },
        }),
      )
      expect(e).toMatchObject({ uid: 4_294_967_294, gid: 2_097_152, mtime: { seconds: -86_400, nanoseconds: 0 } })
    })

    it('refuse a negative size', () => {
      const archive = tar({ name: 'f', format: 'gnu', patch: (header) => base256(header, -1, 124, 12) })
      expect(() => read(archive)).toThrow(/size is negative/)
    })
  })

  describe('sparse files', () => {
    const directory = mkdtempSync(join(tmpdir(), 'oci-ts-sparse-'))
    afterAll(() => rmSync(directory, { recursive: true }))
    const pieces = 40
    const distance = 6 * 4096
    const expected = Buffer.alloc(1_000_000)
    const fd = openSync(join(directory, 'sparse'), 'w')
    for (let at = 0; at < pieces * distance; at += distance) {
      expected.fill(`piece at ${at} `, at, at + 4096)
      writeSync(fd, expected, at, 4096, at)
    }
    ftruncateSync(fd, expected.length)
    closeSync(fd)

    it.each([
      ['GNU format', ['--format=gnu']],
      ['PAX form 0.0', ['--format=pax', '--sparse-version=0.0']],
      ['PAX form 0.1', ['--format=pax', '--sparse-version=0.1']],
      ['PAX form 1.0', ['--format=pax', '--sparse-version=1.0']],
    ])('of GNU tar come out whole: %s', (_, args) => {
      const archive = execFileSync('tar', ['-cS', ...args, '-C', directory, 'sparse'], { maxBuffer: 1 << 24 })
      expect(archive.length).toBeLessThan(expected.length)
      for (const size of [archive.length, 777]) {
        const [e] = read(archive, size)
        expect(e?.name.toString()).toBe('sparse')
        expect(e?.size).toBe(expected.length)
        expect(e?.content.equals(expected)).toBe(true)
        expect(e?.holes.length).toBeGreaterThanOrEqual(pieces - 1)
      }
    })

    it.each([
      ['overlaps', '0,10,5,10'],
      ['goes beyond the file', '0,10,95,10'],
      ['is not what the archive holds', '0,10'],
      ['lacks a length', '0,20,30'],
    ])('are refused when the map %s', (_, map) => {
      const archive = tar({
        name: 'f',
        content: 'x'.repeat(20),
        pax: { 'GNU.sparse.size': '100', 'GNU.sparse.name': 'f', 'GNU.sparse.map': map },
      })
      expect(() => read(archive)).toThrow(LayerError)
    })
  })

  describe('the end', () => {
    it('is the marker: nothing behind it is an entry', () => {
      const archive = Buffer.concat([tar({ name: 'seen' }), tar({ name: 'smuggled' }), Buffer.from('garbage')])
      expect(read(archive, 100).map((e) => e.name.toString())).toEqual(['seen'])
    })

    it('may come without marker, and without the padding of the last entry', () => {
      expect(read(entry({ name: 'f', content: 'abc' }))).toHaveLength(1)
      expect(read(entry({ name: 'f', content: 'abc' }).subarray(0, 515))).toHaveLength(1)
      expect(read(Buffer.alloc(0))).toEqual([])
      expect(read(Buffer.alloc(512))).toEqual([])
    })

    it.each([
      ['in a header', 100],
      ['in content', 600],
    ])('of the bytes %s is an error that names the entry', (_, length) => {
      const cut = tar({ name: 'file', content: 'x'.repeat(300) }).subarray(0, length)
      expect(() => read(cut)).toThrow(/the archive ends in the middle of it/)
    })

    it('after an extended header alone is an error', () => {
      expect(() => read(paxHeader({ uid: '1' }))).toThrow(LayerError)
      expect(() => read(Buffer.concat([paxHeader({ uid: '1' }), endMarker]))).toThrow(/no entry follows/)
    })

    it('half marked is an error', () => {
      expect(() => read(Buffer.concat([Buffer.alloc(512), entry({ name: 'f' })]))).toThrow(/followed by more entries/)
    })
  })

  describe('refuses', () => {
    it('what has a wrong checksum', () => {
      const archive = tar({ name: 'f' })
      archive[0] = 0x67
      expect(() => read(archive)).toThrow(/wrong checksum/)
    })

    it('a type it does not know, by name', () => {
      expect(() => read(tar({ name: 'odd', type: 'Z' }))).toThrow(/"odd": it has the unknown type "Z"/)
    })

    it('a number that is not octal', () => {
      expect(() => read(tar({ name: 'f', patch: (header) => header.write('00000x4', 100) }))).toThrow(
        /mode is no octal/,
      )
    })

    it('a long name or an extended header beyond the limit before it is read', () => {
      const big = entry({ name: 'L', type: 'L', size: 2 ** 21 })
      expect(() => read(big)).toThrow(LimitError)
      expect(() => read(entry({ name: 'x', type: 'x', size: 2 ** 33 }))).toThrow(LimitError)
    })

    it('a record of an extended header that ends behind it, though what follows would complete it', () => {
      const body = Buffer.from('600 path=a')
      const header = entry({ name: 'x', type: 'x', content: body })
      const archive = Buffer.concat([header, entry({ name: 'f' }), endMarker])
      archive[512 + 599] = 0x0a
      expect(() => read(archive)).toThrow(/malformed record/)
    })

    it('more entries, content or header in a row than the limits', () => {
      const three = tar({ name: 'a' }, { name: 'b' }, { name: 'c' })
      expect(() => read(three, three.length, { maxEntries: 2 })).toThrow(/limit of 2 entries/)
      const large = tar({ name: 'a', content: 'x'.repeat(600) }, { name: 'b', content: 'x'.repeat(600) })
      expect(() => read(large, large.length, { maxContent: 1000 })).toThrow(LimitError)
      const stacked = Buffer.concat(Array.from({ length: 20 }, () => paxHeader({ uid: '1' })))
      expect(() => read(stacked)).toThrow(/limit of 16 headers/)
    })

    it('limits that are no positive integers', () => {
      expect(() => read(Buffer.alloc(0), 1, { maxEntries: 0 })).toThrow(InvalidArgumentError)
      expect(() => read(Buffer.alloc(0), 1, { maxRatio: Number.NaN })).toThrow(InvalidArgumentError)
    })
  })

  it('never does anything worse than throw an OciError on mutated archives', () => {
    const base = tar(
      { name: 'dir/', type: '5' },
      { name: 'f', content: 'x'.repeat(700), pax: { path: 'longer', 'SCHILY.xattr.user.a': 'b', mtime: '1.5' } },
      { name: 'L', type: 'L', content: 'name\0' },
      { name: 's', type: '2', linkName: 't', format: 'gnu' },
    )
    for (let round = 0; round < 3000; round += 1) {
      const mutant = mutate(base, round)
      try {
        read(mutant, 1 + ((round * 7919) % 2000))
      } catch (error) {
        expect(error).toSatisfy((e) => e instanceof LayerError || e instanceof LimitError)
      }
    }
  })
})
