import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import * as zlib from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { markOwnPieces } from '../../src/content/own-pieces.ts'
import { LayerError, UnsupportedError } from '../../src/errors.ts'
import {
  type DecompressionCounters,
  type DecompressOptions,
  decompress,
  detectCompression,
} from '../../src/layer/decompress.ts'

/** A stream of `bytes` in pieces. */
function source(bytes: Buffer, size = 65_536): Readable {
  const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
    bytes.subarray(i * size, (i + 1) * size),
  )
  return Readable.from(pieces, { objectMode: false })
}

async function all(stream: Readable, counters?: DecompressionCounters, options?: DecompressOptions): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of decompress(stream, counters, options)) chunks.push(chunk)
  return Buffer.concat(chunks)
}

// Something that is neither short nor trivial.
const content = Buffer.concat(
  Array.from({ length: 40 }, (_, i) => Buffer.concat([randomBytes(5000), Buffer.alloc(20_000, i)])),
)
const half = Math.floor(content.length / 2)
const halves = [content.subarray(0, half), content.subarray(half)] as const

describe('detectCompression', () => {
  it('goes by the first bytes', () => {
    expect(detectCompression(zlib.gzipSync('x'))).toBe('gzip')
    expect(detectCompression(Buffer.from('28b52ffd', 'hex'))).toBe('zstd')
    expect(detectCompression(Buffer.from('5a2a4d18', 'hex'))).toBe('zstd')
    expect(detectCompression(Buffer.from('path/in/a/tar'))).toBe('none')
    expect(detectCompression(Buffer.alloc(0))).toBe('none')
    expect(detectCompression(Buffer.from([0x28]))).toBe('none')
  })
})

describe('decompress', () => {
  it.each([1, 3, 1000, 65_536])('gives the content, whatever the size of the pieces: %i', async (size) => {
    const short = content.subarray(0, size < 100 ? 2000 : undefined)
    expect((await all(source(short, size))).equals(short)).toBe(true)
    expect((await all(source(zlib.gzipSync(short), size))).equals(short)).toBe(true)
  })

  it('takes gzip of several members, and zeros behind it', async () => {
    const members = halves.map((part) => zlib.gzipSync(part))
    expect((await all(source(Buffer.concat(members), 7777))).equals(content)).toBe(true)
    expect((await all(source(Buffer.concat([...members, Buffer.alloc(600)])))).equals(content)).toBe(true)
  })

  it.each([1, 777, 65_536])('refuses anything else behind gzip, as Go does, in pieces of %i', async (size) => {
    const short = zlib.gzipSync(content.subarray(0, 2000))
    const garbage = Buffer.concat([short, Buffer.from('garbage behind it')])
    await expect(all(source(garbage, size))).rejects.toThrow(LayerError)
  })

  it('takes nothing for nothing', async () => {
    expect(await all(source(Buffer.alloc(0)))).toEqual(Buffer.alloc(0))
  })

  it('counts what it has read', async () => {
    const counters: DecompressionCounters = { compressed: 0 }
    const blob = zlib.gzipSync(content)
    await all(source(blob), counters)
    expect(counters).toEqual({ compressed: blob.length, compression: 'gzip' })
  })

  it('names what is wrong with damaged data', async () => {
    const blob = zlib.gzipSync(content)
    await expect(all(source(blob.subarray(0, -10)))).rejects.toThrow(LayerError)
    await expect(all(source(blob.subarray(0, -10)))).rejects.toThrow(/gzip data is damaged or cut short/)
  })

  it('destroys the source when it is left early', async () => {
    const stream = source(zlib.gzipSync(content), 100)
    for await (const _ of decompress(stream)) break
    expect(stream.destroyed).toBe(true)
  })

  it('throws what the source throws', async () => {
    const failure = new Error('broken')
    const stream = Readable.from(
      (async function* () {
        yield zlib.gzipSync(content).subarray(0, 5000)
        throw failure
      })(),
      { objectMode: false },
    )
    await expect(all(stream)).rejects.toBe(failure)
  })

  it.each([
    ['gzip', { digested: false }, zlib.gzipSync(content)],
    ['gzip', { digested: true }, zlib.gzipSync(content)],
    ['none', {}, content],
  ] as const)(
    'frees what only it has when it has read it, and what it hands on never: %s, %o',
    async (_, how, blob) => {
      const size = 64 * 1024
      const pieces = Array.from({ length: Math.ceil(blob.length / size) }, (_, i) => {
        const part = blob.subarray(i * size, (i + 1) * size)
        const own = Buffer.allocUnsafeSlow(part.length)
        part.copy(own)
        return own
      })
      const given = async function* (): AsyncGenerator<Buffer> {
        yield* pieces
      }
      const stream = Readable.from(given(), { objectMode: false, highWaterMark: 1 })
      markOwnPieces(stream)
      expect((await all(stream, undefined, how)).equals(content)).toBe(true)
      const large = pieces.filter((_, i) => i < pieces.length - 1)
      expect(large.length).toBeGreaterThan(2)
      for (const { byteLength } of large) expect(byteLength).toBe(blob === content ? size : 0)
    },
  )

  describe('of gzip whose content has a digest that is checked', () => {
    const digested = (bytes: Buffer, size?: number, counters?: DecompressionCounters): Promise<Buffer> =>
      all(source(bytes, size), counters, { digested: true })
    const members = halves.map((part) => zlib.gzipSync(part))

    it.each([1, 3, 1000, 65_536, 1 << 24])(
      'gives the content, of several members as well, in pieces of %i',
      async (size) => {
        const short = content.subarray(0, size < 100 ? 2000 : undefined)
        expect((await digested(zlib.gzipSync(short), size)).equals(short)).toBe(true)
        const twice = Buffer.concat([zlib.gzipSync(short), zlib.gzipSync(short)])
        expect((await digested(twice, size)).equals(Buffer.concat([short, short]))).toBe(true)
      },
    )

    it('takes zeros behind it, and counts them as read', async () => {
      const blob = Buffer.concat([...members, Buffer.alloc(600)])
      const counters: DecompressionCounters = { compressed: 0 }
      expect((await digested(blob, 100, counters)).equals(content)).toBe(true)
      expect(counters).toEqual({ compressed: blob.length, compression: 'gzip' })
    })

    it.each([1, 777, 65_536])('refuses anything else behind it, in pieces of %i', async (size) => {
      const garbage = Buffer.concat([zlib.gzipSync(content.subarray(0, 2000)), Buffer.from('garbage behind it')])
      await expect(digested(garbage, size)).rejects.toThrow(LayerError)
    })

    it.each([1, 4, 65_536])('takes headers with all that they may have, in pieces of %i', async (size) => {
      const plain = zlib.gzipSync('content')
      const more = Buffer.from('\x03\0abcname\0comment\0\x12\x34', 'latin1')
      const header = Buffer.from(plain.subarray(0, 10))
      header[3] = 2 + 4 + 8 + 16
      expect(String(await digested(Buffer.concat([header, more, plain.subarray(10)]), size))).toBe('content')
    })

    it.each([
      ['within its header', 5],
      ['within its data', 3000],
      ['within its check sum', -5],
    ])('refuses what is cut short %s', async (_, end) => {
      await expect(digested(zlib.gzipSync(content).subarray(0, end))).rejects.toThrow(/damaged or cut short/)
    })

    it('is not kept busy by many small members, or by a long name', async () => {
      const many = Buffer.concat(Array(10_000).fill(zlib.gzipSync('x')))
      const [header, body] = [Buffer.from(zlib.gzipSync('x').subarray(0, 10)), zlib.gzipSync('x').subarray(10)]
      header[3] = 8
      const long = Buffer.concat([header, Buffer.alloc(2 << 20, 'n'), Buffer.from([0]), body])
      const timeOf = async (blob: Buffer, how: DecompressOptions): Promise<number> => {
        const before = process.cpuUsage()
        await all(source(blob), undefined, how)
        const { user, system } = process.cpuUsage(before)
        return user + system
      }
      for (const blob of [many, long]) {
        const usual = await timeOf(blob, { digested: false })
        expect(await timeOf(blob, { digested: true })).toBeLessThan(20 * usual + 200_000)
      }
    })

    it('refuses flags and methods that nobody knows', async () => {
      for (const [at, value] of [
        [2, 7],
        [3, 0x20],
      ] as const) {
        const blob = zlib.gzipSync('x')
        blob[at] = value
        await expect(digested(blob)).rejects.toThrow(LayerError)
      }
    })

    it('does not look at its check sum', async () => {
      const blob = zlib.gzipSync(content)
      blob[blob.length - 8] = (blob[blob.length - 8] as number) ^ 1
      expect((await digested(blob)).equals(content)).toBe(true)
      await expect(all(source(blob))).rejects.toThrow(LayerError)
    })
  })

  const hasZstd = typeof zlib.zstdCompressSync === 'function'

  describe.skipIf(!hasZstd)('of zstd (skipped: this Node has none; 22.15 and newer do)', () => {
    const skippable = Buffer.concat([Buffer.from('502a4d18', 'hex'), Buffer.from([5, 0, 0, 0]), Buffer.from('hello')])

    it.each([100, 5000, 65_536, 1 << 24])(
      'takes one frame, several, and such that are skipped, in pieces of %i',
      async (size) => {
        const frames = halves.map((part) => zlib.zstdCompressSync(part))
        expect((await all(source(zlib.zstdCompressSync(content), size))).equals(content)).toBe(true)
        expect((await all(source(Buffer.concat(frames), size))).equals(content)).toBe(true)
        const mixed = Buffer.concat([skippable, ...frames, skippable])
        expect((await all(source(mixed, size))).equals(content)).toBe(true)
      },
    )

    it('names what is wrong with damaged data', async () => {
      const blob = zlib.zstdCompressSync(content)
      blob.fill(0xff, 4, 20)
      await expect(all(source(blob))).rejects.toThrow(LayerError)
    })

    it('throws what the source throws', async () => {
      const failure = new Error('broken')
      const stream = Readable.from(
        (async function* () {
          yield zlib.zstdCompressSync(content).subarray(0, 5000)
          throw failure
        })(),
        { objectMode: false },
      )
      await expect(all(stream)).rejects.toBe(failure)
    })
  })

  it.skipIf(hasZstd)('says what to do about zstd where Node has none (skipped: this Node has it)', async () => {
    const failed = expect(all(source(Buffer.from('28b52ffd00000000', 'hex')))).rejects
    await failed.toThrow(UnsupportedError)
  })
})
