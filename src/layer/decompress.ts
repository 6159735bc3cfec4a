import type { Readable } from 'node:stream'
import { freePiece, hasOwnPieces } from '../content/own-pieces.ts'
import { LayerError } from '../errors.ts'
import { type Compression, type DecodeOptions, decoded, isDamage } from '../internal/compression.ts'
import { chunkSize } from '../internal/feeder.ts'

export { type Compression, detectCompression } from '../internal/compression.ts'

/** What {@link decompress} tells while it works. */
export interface DecompressionCounters {
  /** Bytes taken from the source so far. */
  compressed: number
  /** Set when the first bytes have been seen. */
  compression?: Compression
}

/** How {@link decompress} works. */
export type DecompressOptions = Pick<DecodeOptions, 'digested'>

/**
 * The content of a layer blob, uncompressed: gzip (also of several members, and with zeros behind it),
 * zstd where Node has it, or as it is. An error of the source comes out as it is; ending the iteration
 * early destroys the source.
 * @throws UnsupportedError for zstd on a Node without it. @throws LayerError for damaged data.
 */
export async function* decompress(
  source: Readable,
  counters: DecompressionCounters = { compressed: 0 },
  { digested }: DecompressOptions = {},
): AsyncGenerator<Buffer, void, undefined> {
  const input = counted(source, counters)
  try {
    const onDetected = (compression: Compression): void => {
      counters.compression = compression
    }
    yield* decoded(input, { onDetected, digested })
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

function damaged({ compression, compressed }: DecompressionCounters, cause: Error): LayerError {
  const message = `the ${compression} data is damaged or cut short, within ${compressed} bytes: ${cause.message}`
  return new LayerError('(compressed data)', message, { cause })
}

async function* counted(source: Readable, counters: DecompressionCounters): AsyncGenerator<Buffer, void, undefined> {
  const isOurs = hasOwnPieces(source)
  for await (const chunk of source as AsyncIterable<Buffer>) {
    counters.compressed += chunk.length
    yield chunk
    // A decompressor that wants the next piece is done with this one. What is not compressed goes on to somebody else.
    if (isOurs && counters.compression !== 'none') freePiece(chunk)
  }
}
