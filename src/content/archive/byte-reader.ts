import { ArchiveError } from '../../errors.ts'

/** Reads a stream of bytes in parts of known sizes, each after the one before. */
export class ByteReader {
  readonly #input: AsyncIterator<Uint8Array>
  #rest: Buffer = Buffer.alloc(0)
  /** Bytes of the body given out last that nobody has read yet. */
  #unread = 0

  constructor(input: AsyncIterable<Uint8Array>) {
    this.#input = input[Symbol.asyncIterator]()
  }

  /** The next `size` bytes, of which there are at least `size` in memory then; undefined at the end of the input. */
  async read(size: number): Promise<Buffer | undefined> {
    await this.#skipUnread()
    const bytes = await this.peek(size)
    if (bytes.length === 0 && size > 0) return undefined
    if (bytes.length < size) throw new ArchiveError('it is cut short')
    this.#rest = this.#rest.subarray(size)
    return bytes
  }

  /** Up to `size` bytes that come next, without taking them; fewer at the end of the input. */
  async peek(size: number): Promise<Buffer> {
    if (this.#rest.length < size) {
      const parts = [this.#rest]
      for (let have = this.#rest.length; have < size; ) {
        const { value, done } = await this.#input.next()
        if (done === true) break
        parts.push(toBuffer(value))
        have += value.byteLength
      }
      this.#rest = Buffer.concat(parts)
    }
    return this.#rest.subarray(0, size)
  }

  /** The next `size` bytes piece by piece; what is not read is skipped when anything else is asked for. */
  async *body(size: number): AsyncGenerator<Buffer, void, undefined> {
    await this.#skipUnread()
    this.#unread = size
    while (this.#unread > 0) yield await this.#piece()
  }

  /** Reads what remains, so that whoever writes it is not cut off. */
  async drain(): Promise<void> {
    this.#rest = Buffer.alloc(0)
    while ((await this.#input.next()).done !== true);
  }

  /** Gives the input up. */
  async close(): Promise<void> {
    await this.#input.return?.()
  }

  async #skipUnread(): Promise<void> {
    while (this.#unread > 0) await this.#piece()
  }

  async #piece(): Promise<Buffer> {
    if (this.#rest.length === 0) {
      const { value, done } = await this.#input.next()
      if (done === true) throw new ArchiveError('it is cut short')
      this.#rest = toBuffer(value)
    }
    const piece = this.#rest.subarray(0, this.#unread)
    this.#rest = this.#rest.subarray(piece.length)
    this.#unread -= piece.length
    return piece
  }
}

function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
