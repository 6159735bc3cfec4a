import { ArchiveError } from '../../errors.ts'
import { decoded, isDamage } from '../../internal/compression.ts'

/**
 * The bytes of an archive, decompressed where they are compressed. Ending the iteration early ends the source's.
 * @throws UnsupportedError for zstd on a Node without it. @throws ArchiveError for damaged data.
 */
export async function* decompressed(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  const input = buffers(source)
  try {
    yield* decoded(input)
  } catch (error) {
    if (!isDamage(error)) throw error
    throw new ArchiveError(`the compressed data is damaged or cut short: ${error.message}`, undefined, { cause: error })
  } finally {
    await input.return()
  }
}

async function* buffers(source: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer, void, undefined> {
  for await (const { buffer, byteOffset, byteLength } of source) yield Buffer.from(buffer, byteOffset, byteLength)
}
