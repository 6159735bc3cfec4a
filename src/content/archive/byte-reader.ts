import { ArchiveError } from '../../errors.ts'

/** Reads an archive's bytes one after the other: headers in blocks, content piece by piece. */
export class ByteReader {
  readonly #input: AsyncIterator<Uint8Array>
  /** Bytes that came with those asked for. */
  #rest: Buffer = Buffer.alloc(0)
  /** Bytes of the present content that nobody has read yet, and of what fills its last block. */
  #unread = 0
  #padding = 0
  /** One piece at a time: whoever was reading may have been cut off while one was on its way. */
  #last: Promise<unknown> = Promise.resolve()

  constructor(input: AsyncIterable<Uint8Array>) {
    this.#input = input[Symbol.asyncIterator]()
  }

  /** The next `size` bytes behind the present content; undefined at the end of the input. */
  async block(size: number): Promise<Buffer | undefined> {
    while (this.#unread > 0) await this.#piece()
    this.#unread = this.#padding
    this.#padding = 0
    while (this.#unread > 0) await this.#piece()
    const bytes = await this.#ahead(size)
    if (bytes.length === 0) return undefined
    if (bytes.length < size) throw cutShort()
    this.#rest = this.#rest.subarray(size)
    return bytes
  }

  /** Says that content of `size` bytes is next, and that many behind it that mean nothing. */
  enter(size: number, padding: number): void {
    this.#unread = size
    this.#padding = padding
  }

  /** The first bytes of the content, at most `size`, without taking them. */
  peek(size: number): Promise<Buffer> {
    return this.#ahead(Math.min(size, this.#unread))
  }

  /** The content, all of it at once: the caller has bounded it. */
  async bytes(): Promise<Uint8Array> {
    const parts: Uint8Array[] = []
    for await (const piece of this.body()) parts.push(piece)
    return Buffer.concat(parts)
  }

  /** The content piece by piece. What is not read of it is passed over. */
  async *body(): AsyncGenerator<Buffer, void, undefined> {
    while (this.#unread > 0) yield await this.#piece()
  }

  /** Reads on to the end of the input, so that whoever writes it is not cut off. */
  async drain(): Promise<void> {
    while ((await this.#input.next()).done !== true);
  }

  /** Gives the input up. */
  async close(): Promise<void> {
    await this.#input.return?.()
  }

  async #ahead(size: number): Promise<Buffer> {
    if (this.#rest.length >= size) return this.#rest.subarray(0, size)
    const parts = [this.#rest]
    for (let have = this.#rest.length; have < size; ) {
      const { value, done } = await this.#input.next()
      if (done === true) break
      parts.push(toBuffer(value))
      have += value.byteLength
    }
    this.#rest = Buffer.concat(parts)
    return this.#rest.subarray(0, size)
  }

  #piece(): Promise<Buffer> {
    const piece = this.#last.then(async () => {
      if (this.#rest.length === 0) {
        const { value, done } = await this.#input.next()
        if (done === true) throw cutShort()
        this.#rest = toBuffer(value)
      }
      const taken = this.#rest.subarray(0, this.#unread)
      this.#rest = this.#rest.subarray(taken.length)
      this.#unread -= taken.length
      return taken
    })
    this.#last = piece.catch(() => {})
    return piece
  }
}

function cutShort(): ArchiveError {
  return new ArchiveError('it is cut short')
}

function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
