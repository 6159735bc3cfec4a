import type { Gunzip, InflateRaw, ZstdDecompress } from 'node:zlib'

/** Output of a decompressor in one piece, in bytes: with Node's 16 KiB inflating takes twice as long. */
export const chunkSize: number = 1024 * 1024

/** A decompressor of Node that ends with what it decompresses, and not with its input. */
type Decoder = Gunzip | InflateRaw | ZstdDecompress

/** Hands input to one decompressor after the other, and what one leaves over to the next. */
export class Feeder {
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

  /** What a decompressor makes of what comes next; what it has not used is there afterwards. */
  async *through(decoder: Decoder): AsyncGenerator<Buffer, void, undefined> {
    const fed = this.#feed(decoder)
    yield* decoder as AsyncIterable<Buffer>
    await fed
    const unused = this.#written - decoder.bytesWritten
    if (unused > 0) this.#next = this.#last.subarray(this.#last.length - unused)
  }

  /**
   * Writes piece by piece until the input ends, or the decompressor: that is when a piece holds more than
   * the rest of a frame. Errors come out of the decompressor.
   */
  async #feed(decoder: Decoder): Promise<void> {
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

  /** Takes up to `size` bytes away, of one piece; undefined at the end of the input. */
  async take(size: number): Promise<Buffer | undefined> {
    if (!(await this.hasMore())) return undefined
    const piece = this.#next as Buffer
    this.#next = piece.subarray(size)
    return piece.subarray(0, size)
  }

  /** Passes over all up to the next zero, and that; false when there is none. */
  async skipText(): Promise<boolean> {
    while (await this.hasMore()) {
      const piece = this.#next as Buffer
      const end = piece.indexOf(0)
      this.#next = end < 0 ? undefined : piece.subarray(end + 1)
      if (end >= 0) return true
    }
    return false
  }

  /** The next byte, which stays there; undefined at the end of the input. */
  async peek(): Promise<number | undefined> {
    return (await this.hasMore()) ? this.#next?.[0] : undefined
  }
}
