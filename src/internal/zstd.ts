import * as zlib from 'node:zlib'
import { UnsupportedError } from '../errors.ts'
import { chunkSize, Feeder } from './feeder.ts'

/**
 * The largest window that a frame may want, as a power of two: 128 MiB, which is what the program `zstd`
 * takes without being asked, too. Each decompressor holds as much as its frame wants.
 */
const maxWindowLog = 27

/**
 * Decompresses zstd, of any number of frames: Node's decompressor ends with the first one, but what podman
 * writes as zstd:chunked, and parallel compressors, have many.
 * @throws UnsupportedError on a Node without zstd. Damaged data throws zlib's error.
 */
export async function* unzstd(input: AsyncGenerator<Buffer, void, undefined>): AsyncGenerator<Buffer, void, undefined> {
  if (typeof zlib.createZstdDecompress !== 'function') {
    throw new UnsupportedError('zstd', `Node ${process.versions.node} has no zstd decompressor`, {
      hint: 'Use Node 22.15 or newer, or gzip in its place.',
    })
  }
  const feeder = new Feeder(input)
  while (await feeder.hasMore()) {
    const params = { [zlib.constants.ZSTD_d_windowLogMax]: maxWindowLog }
    yield* feeder.through(zlib.createZstdDecompress({ chunkSize, params }))
  }
}
