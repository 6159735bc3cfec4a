import { pipeline, Readable } from 'node:stream'
import * as zlib from 'node:zlib'
import { ArchiveError, UnsupportedError } from '../../errors.ts'

/** How bytes are compressed, by their first four; fewer are not. */
export function compressionOf(head: Uint8Array): 'gzip' | 'zstd' | 'none' {
  const [first, second, third, fourth] = head
  if (first === 0x1f && second === 0x8b) return 'gzip'
  return first === 0x28 && second === 0xb5 && third === 0x2f && fourth === 0xfd ? 'zstd' : 'none'
}

/** Output of a decompressor in one piece, in bytes. */
const chunkSize = 256 * 1024

/**
 * The bytes of an archive, decompressed where they are compressed.
 * @throws UnsupportedError for zstd on a Node without it. @throws ArchiveError for damaged data.
 */
export async function* decompressed(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  const input = source[Symbol.asyncIterator]()
  let head = Buffer.alloc(0)
  try {
    while (head.length < 4) {
      const { value, done } = await input.next()
      if (done === true) break
      head = Buffer.concat([head, value])
    }
    const rest = { [Symbol.asyncIterator]: () => input }
    const kind = compressionOf(head)
    if (kind === 'none') {
      yield head
      yield* rest
      return
    }
    const decoder = kind === 'gzip' ? zlib.createGunzip({ chunkSize }) : zstdDecoder()
    const all = async function* (): AsyncGenerator<Uint8Array> {
      yield head
      yield* rest
    }
    // The callback is there so that an error is not unhandled: the iteration below throws it.
    pipeline(Readable.from(all(), { objectMode: false }), decoder, () => {})
    yield* decoder as AsyncIterable<Uint8Array>
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && /^(Z_|ZSTD_)/.test(String(error.code)))) throw error
    throw new ArchiveError(`the compressed data is damaged or cut short: ${error.message}`, undefined, { cause: error })
  } finally {
    await input.return?.()
  }
}

function zstdDecoder(): NodeJS.ReadWriteStream {
  if (typeof zlib.createZstdDecompress === 'function') return zlib.createZstdDecompress({ chunkSize })
  throw new UnsupportedError('zstd', `Node ${process.versions.node} has no zstd decompressor`, {
    hint: 'Use Node 22.15 or newer, or decompress the archive first.',
  })
}
