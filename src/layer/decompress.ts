import { pipeline, type Readable } from 'node:stream'
import * as zlib from 'node:zlib'
import { LayerError } from '../errors.ts'
import { chunkSize, unzstd } from './zstd.ts'

/** How a layer blob is compressed. */
export type Compression = 'gzip' | 'zstd' | 'none'

/**
 * Tells the compression by the first bytes, not by the media type, as peers do: registries hold layers
 * whose type lies. Four bytes are enough; fewer are not compressed, nor is an empty blob.
 */
export function detectCompression(head: Uint8Array): Compression {
  if (head[0] === 0x1f && head[1] === 0x8b) return 'gzip'
  if (head.length < 4) return 'none'
  const magic = Buffer.from(head.buffer, head.byteOffset, 4).readUInt32LE()
  const isSkippableFrame = (magic & 0xfffffff0) >>> 0 === 0x184d2a50
  return magic === 0xfd2fb528 || isSkippableFrame ? 'zstd' : 'none'
}

/** What {@link decompress} tells while it works. */
export interface DecompressionCounters {
  /** Bytes taken from the source so far. */
  compressed: number
  /** Set when the first bytes have been seen. */
  compression?: Compression
}

/**
 * The content of a layer blob, uncompressed: gzip (also of several members, and with zeros behind it),
 * zstd where Node has it, or as it is. An error of the source comes out as it is; ending the iteration
 * early destroys the source.
 * @throws UnsupportedError for zstd on a Node without it. @throws LayerError for damaged data.
 */
export async function* decompress(
  source: Readable,
  counters: DecompressionCounters = { compressed: 0 },
): AsyncGenerator<Buffer, void, undefined> {
  const input = counted(source, counters)
  try {
    const head = await readHead(input)
    counters.compression = detectCompression(head)
    yield* decoded(counters.compression, chain(head, input))
  } catch (error) {
    throw isDamage(error) ? damaged(counters, error) : error
  } finally {
    source.destroy()
  }
}

/**
 * Whether a piece that {@link decompress} gave is the last one in memory that the decompressor had made for it: once the
 * pieces before it are done with, that memory can be freed.
 */
export function isWholeOutput({ buffer, byteOffset, length }: Buffer, { compression }: DecompressionCounters): boolean {
  const ours = compression === 'gzip' || compression === 'zstd'
  return ours && buffer.byteLength === chunkSize && byteOffset + length === chunkSize
}

/** Whether an error of zlib is about the data. */
function isDamage(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'code' in error && /^(Z_|ZSTD_)/.test(String(error.code))
}

function damaged({ compression, compressed }: DecompressionCounters, cause: Error): LayerError {
  const message = `the ${compression} data is damaged or cut short, within ${compressed} bytes: ${cause.message}`
  return new LayerError('(compressed data)', message, { cause })
}

async function* counted(source: Readable, counters: DecompressionCounters): AsyncGenerator<Buffer, void, undefined> {
  for await (const chunk of source as AsyncIterable<Buffer>) {
    counters.compressed += chunk.length
    yield chunk
  }
}

async function readHead(input: AsyncGenerator<Buffer, void, undefined>): Promise<Buffer> {
  let head: Buffer = Buffer.alloc(0)
  while (head.length < 4) {
    const { value, done } = await input.next()
    if (done === true || value === undefined) break
    head = head.length === 0 ? value : Buffer.concat([head, value])
  }
  return head
}

async function* chain(head: Buffer, rest: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
  if (head.length > 0) yield head
  yield* rest
}

async function* decoded(
  compression: Compression,
  input: AsyncGenerator<Buffer, void, undefined>,
): AsyncGenerator<Buffer, void, undefined> {
  if (compression === 'none') {
    yield* input
  } else if (compression === 'gzip') {
    const decoder = zlib.createGunzip({ chunkSize })
    // The callback is there so that an error is not unhandled: the iteration below throws it.
    pipeline(input, decoder, () => {})
    yield* decoder as AsyncIterable<Buffer>
  } else {
    yield* unzstd(input)
  }
}
