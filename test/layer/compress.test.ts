import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import * as zlib from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { collect } from '../../src/content/verify.ts'
import { InvalidArgumentError, UnsupportedError } from '../../src/errors.ts'
import { type CompressOptions, packLayer } from '../../src/layer/compress.ts'
import { decompress } from '../../src/layer/decompress.ts'

const archive = Buffer.alloc(1_500_000, 'some content that repeats itself; ')

async function* pieces(): AsyncGenerator<Buffer> {
  for (let at = 0; at < archive.length; at += 100_000) yield archive.subarray(at, at + 100_000)
}

async function pack(
  options?: CompressOptions,
): Promise<{ blob: Buffer; mediaType: string; diffId: string; size: number }> {
  const packed = packLayer(pieces(), options)
  const blob = Buffer.from(await collect(packed.blob))
  return { blob, mediaType: packed.mediaType, ...packed.summary() }
}

const noZstd = typeof zlib.createZstdCompress !== 'function'

describe('packLayer', () => {
  const formats = [
    ['gzip', 'application/vnd.oci.image.layer.v1.tar+gzip'],
    ['none', 'application/vnd.oci.image.layer.v1.tar'],
    ...(noZstd ? [] : [['zstd', 'application/vnd.oci.image.layer.v1.tar+zstd'] as const]),
  ] as const
  it.each(formats)('makes a blob of %s that holds the archive', async (compression, type) => {
    const { blob, mediaType, diffId, size } = await pack({ compression })
    const back: Buffer[] = []
    for await (const chunk of decompress(Readable.from([blob]))) back.push(chunk)
    expect(Buffer.concat(back).equals(archive)).toBe(true)
    expect({ mediaType, size }).toEqual({ mediaType: type, size: archive.length })
    expect(diffId).toBe(`sha256:${createHash('sha256').update(archive).digest('hex')}`)
  })

  it('makes the same blob of the same archive, without a time in it', async () => {
    const [one, two] = [await pack(), await pack()]
    expect(one.blob.equals(two.blob)).toBe(true)
    expect(one.blob.readUInt32LE(4)).toBe(0)
  })

  it('compresses as much as it is told to', async () => {
    const [fast, best] = [await pack({ level: 1 }), await pack({ level: 9 })]
    expect(best.blob.length).toBeLessThan(fast.blob.length)
  })

  it('tells what the archive was only when all of it has been read', () => {
    expect(() => packLayer(pieces()).summary()).toThrow(InvalidArgumentError)
  })

  it('hands on what the archive fails with', async () => {
    async function* failing(): AsyncGenerator<Buffer> {
      yield Buffer.alloc(10)
      throw new UnsupportedError('this', 'it fails')
    }
    await expect(collect(packLayer(failing()).blob)).rejects.toThrow(UnsupportedError)
  })

  it.skipIf(!noZstd)('says what zstd takes (skipped where Node has it)', () => {
    expect(() => packLayer(pieces(), { compression: 'zstd' })).toThrow(UnsupportedError)
  })
})
