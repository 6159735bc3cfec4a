import * as zlib from 'node:zlib'
import { UnsupportedError } from '../errors.ts'

/** Output of a decompressor in one piece, in bytes: with Node's 16 KiB inflating takes twice as long. */
export const chunkSize: number = 1024 * 1024

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
    const decoder = zlib.createZstdDecompress({ chunkSize, params })
    const fed = feeder.feed(decoder)
    yield* decoder as AsyncIterable<Buffer>
    await fed
    feeder.takeBack(decoder)
  }
}

/** Hands input to one decompressor after the other, and what one leaves over to the next. */
class Feeder {
  readonly #input: AsyncGenerator<Buffer, void, undefined>
  /** The next piece. */
  #next: Buffer | undefined
  /** The piece that was written last, and how much has been written to this decompressor. */
  #last: Buffer = Buffer.alloc(0)
  #written = 0

  constructor(input: AsyncGenerator<Buffer, void, undefined>) {
    this.#input = input
  }

  async hasMore(): Promise<boolean> {
    while (this.#next === undefined || this.#next.length === 0) {
      const { value, done } = await this.#input.next()
      if (done === true || value === undefined) return false
      this.#next = value
    }
    return true
  }

  /**
   * Writes piece by piece until the input ends, or the decompressor: that is when a piece holds more than
   * the rest of a frame. Errors come out of the decompressor.
   */
  async feed(decoder: zlib.ZstdDecompress): Promise<void> {
    this.#written = 0
    // After an error it need not call back.
    const over = new Promise<boolean>((resolve) => {
      for (const event of ['error', 'close']) decoder.once(event, () => resolve(false))
    })
    try {
      while (await this.hasMore()) {
        const piece = this.#next as Buffer
        this.#next = undefined
        this.#last = piece
        this.#written += piece.length
        const taken = new Promise<boolean>((resolve) => decoder.write(piece, () => resolve(true)))
        if (!(await Promise.race([taken, over])) || decoder.bytesWritten < this.#written) return
      }
      decoder.end()
    } catch (error) {
      decoder.destroy(error instanceof Error ? error : new Error(String(error)))
    }
  }

  /** Keeps what the decompressor has not used. */
  takeBack(decoder: zlib.ZstdDecompress): void {
    const unused = this.#written - decoder.bytesWritten
    if (unused > 0) this.#next = this.#last.subarray(this.#last.length - unused)
  }
}
