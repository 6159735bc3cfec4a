import { InvalidArgumentError } from '../../errors.ts'
import { displayName, entryError, type TarEntry, type TarHandler } from './entry.ts'
import { blockSize, paddingOf } from './header.ts'
import { writeHeader } from './write-header.ts'

/** Bytes of zeros that are handed on at a time, for holes. */
const zerosSize = 64 * 1024
let zeros: Buffer | undefined

/**
 * Writes a tar archive piece by piece, exactly to the byte: ustar, with PAX extended headers for what that
 * can't hold. It takes what {@link TarReader} gives, so that one can be put behind the other. Holes become zeros:
 * a layer should not hold sparse files (image-spec, layer.md, "Representing Changes"). Synchronous, and nothing is kept:
 * `sink` gets each piece at once.
 */
export class TarWriter implements TarHandler {
  readonly #sink: (chunk: Buffer) => void
  #entry: TarEntry | undefined
  /** Bytes of content that are to come. */
  #remaining = 0
  #ended = false

  constructor(sink: (chunk: Buffer) => void) {
    this.#sink = sink
  }

  /** @throws LayerError for what tar can't hold. */
  entry(entry: TarEntry): void {
    if (this.#ended || this.#entry !== undefined) throw new InvalidArgumentError('the entry before is not complete')
    this.#sink(writeHeader(entry))
    this.#entry = entry
    this.#remaining = entry.type === 'file' ? entry.size : 0
  }

  /** @throws LayerError for more content than the entry has announced. */
  data(chunk: Buffer): void {
    this.#take(chunk.length)
    if (chunk.length > 0) this.#sink(chunk)
  }

  hole(length: number): void {
    this.#take(length)
    zeros ??= Buffer.alloc(zerosSize)
    for (let left = length; left > 0; left -= zerosSize) this.#sink(zeros.subarray(0, Math.min(left, zerosSize)))
  }

  /** @throws LayerError for less content than the entry has announced. */
  entryEnd(): void {
    const entry = this.#entry
    if (entry === undefined) throw new InvalidArgumentError('there is no entry to end')
    if (this.#remaining > 0) throw entryError(entry.name, `${this.#remaining} bytes of its content are missing`)
    const padding = entry.type === 'file' ? paddingOf(entry.size) : 0
    if (padding > 0) this.#sink(Buffer.alloc(padding))
    this.#entry = undefined
  }

  /** Writes the end-of-archive marker. */
  end(): void {
    if (this.#entry !== undefined) {
      throw new InvalidArgumentError(`${displayName(this.#entry.name)} is not complete`)
    }
    if (!this.#ended) this.#sink(Buffer.alloc(2 * blockSize))
    this.#ended = true
  }

  #take(length: number): void {
    if (this.#entry === undefined) throw new InvalidArgumentError('there is no entry to take content')
    this.#remaining -= length
    if (this.#remaining < 0) throw entryError(this.#entry.name, 'it has more content than it has announced')
  }
}
