import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, lstatSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { gzipSync } from 'node:zlib'
import { afterAll, describe, expect, it } from 'vitest'
import { DigestMismatchError, LayerError, LimitError } from '../../../src/errors.ts'
import { digestOf } from '../../../src/image/digest.ts'
import { applyLayer } from '../../../src/layer/apply/apply.ts'
import { isRoot, Scratch, stream } from '../support/apply.ts'
import { tar } from '../support/tar.ts'
import { tree, xattrs } from '../support/tree.ts'

const scratch = new Scratch()
afterAll(() => scratch.clean())

describe('applying a layer', () => {
  it('makes what the archive says, in every form of compression', async () => {
    const archive = tar({ name: 'd/', type: '5' }, { name: 'd/f', content: 'hello' })
    const members = Buffer.concat([
      gzipSync(archive.subarray(0, 700)),
      gzipSync(archive.subarray(700)),
      Buffer.alloc(512),
    ])
    for (const blob of [archive, gzipSync(archive), members]) {
      const directory = scratch.directory()
      const applied = await applyLayer(stream(blob), directory, { diffId: digestOf(archive) })
      const compression = blob === archive ? 'none' : 'gzip'
      const made = { diffId: digestOf(archive), size: archive.length, entries: 2, opaqueRoot: false, compression }
      expect(applied).toEqual(made)
      expect(readFileSync(join(directory, 'd/f'), 'utf8')).toBe('hello')
    }
  })

  it('takes an empty blob for an empty layer', async () => {
    const directory = scratch.directory()
    const applied = await applyLayer(Readable.from([], { objectMode: false }), directory)
    expect(applied).toMatchObject({ size: 0, entries: 0 })
    expect(readdirSync(directory)).toEqual([])
  })

  it('writes large files whole, and keeps holes', async () => {
    const content = Buffer.alloc(5_000_000, 'content ')
    const sparse = {
      name: 'sparse',
      content: 'x'.repeat(4096),
      pax: { 'GNU.sparse.size': '50000000', 'GNU.sparse.map': '1048576,4096', 'GNU.sparse.name': 'sparse' },
    }
    const directory = await scratch.apply(tar({ name: 'large', content }, sparse, { name: 'after', content: 'y' }))
    expect(readFileSync(join(directory, 'large')).equals(content)).toBe(true)
    const { size, blocks } = lstatSync(join(directory, 'sparse'))
    expect(size).toBe(50_000_000)
    expect(blocks * 512).toBeLessThan(1_000_000)
    expect(readFileSync(join(directory, 'sparse')).indexOf('x')).toBe(1_048_576)
    expect(readFileSync(join(directory, 'after'), 'utf8')).toBe('y')
  })

  it('keeps times to the nanosecond, of directories too', async () => {
    const mtime = '1234567890.987654321'
    const directory = await scratch.apply(
      tar(
        { name: './', type: '5', pax: { mtime } },
        { name: 'd/', type: '5', pax: { mtime } },
        { name: 'd/f', content: 'x', pax: { mtime } },
        { name: 'd/s', type: '2', linkName: 'f', pax: { mtime: '-1.5' } },
      ),
    )
    for (const name of ['.', 'd', 'd/f']) {
      expect(lstatSync(join(directory, name), { bigint: true }).mtimeNs).toBe(1_234_567_890_987_654_321n)
    }
    expect(lstatSync(join(directory, 'd/s'), { bigint: true }).mtimeNs).toBe(-1_500_000_000n)
  })

  it('keeps names that are no UTF-8', async () => {
    const name = Buffer.from([0x66, 0xff, 0xfe])
    const directory = await scratch.apply(tar({ name }, { name: 's', type: '2', linkName: name }))
    expect(readdirSync(directory, 'buffer').map((each) => each.toString('hex'))).toContain(name.toString('hex'))
  })

  it('breaks hard links when one of their names is written again', async () => {
    const directory = await scratch.apply(
      tar({ name: 'a', content: 'old' }, { name: 'b', type: '1', linkName: 'a' }, { name: 'a', content: 'new' }),
    )
    expect(readFileSync(join(directory, 'a'), 'utf8')).toBe('new')
    expect(readFileSync(join(directory, 'b'), 'utf8')).toBe('old')
  })

  it('ignores the umask and the mode of directories it writes to', async () => {
    const before = process.umask(0o077)
    try {
      const directory = await scratch.apply(
        tar({ name: 'd/', type: '5', mode: 0o555 }, { name: 'd/f', mode: 0o666, content: 'x' }, { name: 'd/e/g' }),
      )
      expect(lstatSync(join(directory, 'd')).mode & 0o7777).toBe(0o555)
      expect(lstatSync(join(directory, 'd/f')).mode & 0o7777).toBe(0o666)
      chmodSync(join(directory, 'd'), 0o755)
    } finally {
      process.umask(before)
    }
  })

  describe.skipIf(!isRoot)('as root (skipped for others: owners and devices need it)', () => {
    it('keeps owners, set-user-id bits and file capabilities', async () => {
      const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex')
      const directory = await scratch.apply(
        tar(
          { name: 'setuid', content: 'x', mode: 0o6755, uid: 1000, gid: 2000 },
          { name: 'ping', content: 'x', mode: 0o755, uid: 12, pax: { 'SCHILY.xattr.security.capability': capability } },
          { name: 'huge', pax: { uid: '4294967294', gid: '3000000000' } },
          { name: 'sticky/', type: '5', mode: 0o3777, gid: 50 },
          { name: 'sticky/inner/', type: '5' },
          { name: 'sticky/file' },
          { name: 'link', type: '2', linkName: 'nowhere', uid: 7, gid: 8 },
        ),
      )
      const found = tree(directory)
      expect(found.setuid).toMatchObject({ mode: '106755', owner: '1000:2000' })
      expect(found.ping?.xattrs).toEqual({ 'security.capability': capability.toString('hex') })
      expect(found.huge?.owner).toBe('4294967294:3000000000')
      expect(found.sticky).toMatchObject({ mode: '43777', owner: '0:50' })
      // The group of a set-group-id directory must not reach what is made in it.
      expect(found['sticky/file']?.owner).toBe('0:0')
      expect(found['sticky/inner']?.mode).toBe('40644')
      expect(found.link?.owner).toBe('7:8')
    })

    it('gives nothing the group of a directory that hands it down', async () => {
      const directory = scratch.directory()
      chownSync(directory, 0, 7)
      chmodSync(directory, 0o2755)
      const archive = tar(
        { name: 'f' },
        { name: 'd/', type: '5', mode: 0o755 },
        { name: 'd/e/', type: '5', mode: 0o700 },
      )
      await applyLayer(stream(archive), directory)
      const { f, d, 'd/e': e } = tree(directory)
      expect(f?.owner).toBe('0:0')
      expect(d).toMatchObject({ mode: '40755', owner: '0:0' })
      expect(e).toMatchObject({ mode: '40700', owner: '0:0' })
    })

    it('makes devices, fifos, and the marks of overlayfs', async () => {
      const directory = await scratch.apply(
        tar(
          { name: 'null', type: '3', device: [1, 3], mode: 0o666 },
          { name: 'fifo', type: '6', mode: 0o620 },
          { name: 'd/.wh.gone' },
          { name: 'o/.wh..wh..opq' },
          { name: 'forged', type: '5', pax: { 'SCHILY.xattr.trusted.overlay.opaque': 'y' } },
        ),
      )
      expect(lstatSync(join(directory, 'null'))).toMatchObject({ rdev: 259, mode: 0o20666 })
      expect(lstatSync(join(directory, 'fifo')).mode).toBe(0o10620)
      expect(lstatSync(join(directory, 'd/gone'))).toMatchObject({ rdev: 0, mode: 0o20000 })
      expect(xattrs(join(directory, 'o'))).toEqual({ 'trusted.overlay.opaque': '79' })
      expect(xattrs(join(directory, 'forged'))).toEqual({ 'trusted.overlay.overlay.opaque': '79' })
    })

    it('gives overlayfs a stack that shows what the layers say', async () => {
      const bottom = await scratch.apply(
        tar(
          { name: 'kept', content: 'kept' },
          { name: 'gone', content: 'gone' },
          { name: 'dir/old', content: 'old' },
          { name: 'opaque/old', content: 'old' },
          { name: 'again/old', content: 'old' },
          { name: 'link', type: '2', linkName: 'dir' },
        ),
        { bottom: true },
      )
      const top = await scratch.apply(
        tar(
          { name: '.wh.gone' },
          { name: 'dir/new', content: 'new' },
          { name: 'opaque/.wh.old' },
          { name: 'opaque/new', content: 'new' },
          { name: 'opaque/.wh..wh..opq' },
          { name: 'again/', type: '5' },
          { name: '.wh.again' },
          { name: 'again/new', content: 'new' },
          { name: 'link/', type: '5' },
        ),
      )
      const script = `mount -t overlay overlay -o ro,lowerdir=${top}:${bottom} "$1" && cd "$1" && find . | sort`
      const shown = execFileSync('unshare', ['-m', 'sh', '-c', script, 'sh', scratch.directory()], { encoding: 'utf8' })
      expect(shown.trim().split('\n')).toEqual([
        '.',
        './again',
        './again/new',
        './dir',
        './dir/new',
        './dir/old',
        './kept',
        './link',
        './opaque',
        './opaque/new',
      ])
    })
  })

  it('is over when its promise settles: no process is left, also not after a failure', async () => {
    const children = (): string => readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8')
    const before = children()
    await scratch.apply(tar({ name: 'f' }))
    await expect(scratch.apply(tar({ name: '../f' }))).rejects.toThrow(LayerError)
    expect(children()).toBe(before)
  })

  it('stops with the reason of the signal', async () => {
    const controller = new AbortController()
    const reason = new Error('enough')
    const archive = tar(...Array.from({ length: 500 }, (_, i) => ({ name: `f${i}`, content: 'x'.repeat(2000) })))
    const applied = scratch.apply(archive, { signal: controller.signal, onProgress: () => controller.abort(reason) })
    await expect(applied).rejects.toBe(reason)
    await expect(scratch.apply(archive, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  })

  it('passes on what the source fails with, before and during reading', async () => {
    const failure = new Error('the source broke')
    const broken = stream(tar({ name: 'f', content: Buffer.alloc(200_000) }))
    broken.once('data', () => broken.destroy(failure))
    await expect(applyLayer(broken, scratch.directory())).rejects.toBe(failure)
    const dead = new Readable({ read() {} })
    dead.destroy(failure)
    await expect(applyLayer(dead, scratch.directory())).rejects.toBe(failure)
  })

  it('tells what is wrong with a damaged or truncated blob', async () => {
    const blob = gzipSync(
      tar({ name: 'f', content: Buffer.from(Array.from({ length: 9000 }, (_, i) => (i * 7919) % 251)) }),
    )
    await expect(applyLayer(stream(blob.subarray(0, blob.length - 20)), scratch.directory())).rejects.toThrow(
      LayerError,
    )
    const damaged = Buffer.from(blob)
    damaged.fill(0xff, 100, 140)
    await expect(applyLayer(stream(damaged), scratch.directory())).rejects.toThrow(LayerError)
  })

  it('refuses a layer with another DiffID, and bombs', async () => {
    const diffId = digestOf(Buffer.from('other'))
    await expect(scratch.apply(tar({ name: 'f' }), { diffId })).rejects.toThrow(DigestMismatchError)
    const zeros = gzipSync(tar({ name: 'zeros', content: Buffer.alloc(100 * 2 ** 20) }))
    await expect(scratch.apply(zeros, { limits: { maxRatio: 500 } })).rejects.toThrow(LimitError)
    await expect(scratch.apply(zeros, { limits: { maxSize: 2 ** 20 } })).rejects.toThrow(LimitError)
  })

  it('reports progress', async () => {
    const entries = Array.from({ length: 1000 }, (_, i) => ({ name: `d${i % 50}/f${i}`, content: 'x'.repeat(500) }))
    const seen: number[] = []
    await scratch.apply(gzipSync(tar(...entries)), { onProgress: (progress) => seen.push(progress.entries) })
    expect(seen.at(-1)).toBe(1000)
    expect(seen).toEqual(seen.toSorted((a, b) => a - b))
  })
})
