import { LimitError } from '../../errors.ts'
import { displayName, entryError, type TarHandler } from './entry.ts'
import { parseDecimal, parseNumber } from './numbers.ts'

/** A piece of a sparse file that is in the archive; what lies between the pieces is zeros. Bytes. */
export interface SparseSegment {
  readonly offset: number
  readonly length: number
}

/** Pieces that one file may have. */
const maxSparseSegments = 65_536

const oldEntrySize = 24
const newline = 0x0a

/**
 * Reads the pieces of GNU's old format from a header block (4 at 386) or an extension block (21 at 0).
 * An empty pair ends the list.
 */
export function parseOldSparse(block: Buffer, start: number, count: number, name: Buffer): SparseSegment[] {
  const segments: SparseSegment[] = []
  for (let i = 0; i < count; i += 1) {
    const at = start + i * oldEntrySize
    if (block[at] === 0) break
    segments.push({
      offset: parseNumber(block, at, 12, 'sparse offset', name),
      length: parseNumber(block, at + 12, 12, 'sparse length', name),
    })
  }
  return segments
}

/** Makes pieces of a flat list offset, length, offset, length, … as PAX forms 0.0 and 0.1 have it. */
export function parseSparsePairs(numbers: readonly string[], name: Buffer): SparseSegment[] {
  if (numbers.length % 2 !== 0) throw entryError(name, 'its sparse map has an offset without a length')
  const segments: SparseSegment[] = []
  for (let i = 0; i < numbers.length; i += 2) {
    segments.push({
      offset: parseDecimal(numbers[i] ?? '', 'sparse offset', name),
      length: parseDecimal(numbers[i + 1] ?? '', 'sparse length', name),
    })
  }
  return segments
}

/**
 * The map in front of the content in PAX form 1.0: a count, then offsets and lengths, one decimal number
 * a line, padded to whole blocks.
 */
export class SparseMapText {
  readonly #name: Buffer
  readonly #limit: number
  #text = ''
  #lines = 0
  #wanted: number | undefined

  /** `limit` in bytes. */
  constructor(name: Buffer, limit: number) {
    this.#name = name
    this.#limit = limit
  }

  /** Takes the next block; returns the map when it is complete. @throws LayerError or LimitError. */
  push(block: Buffer): SparseSegment[] | undefined {
    this.#text += block.toString('latin1')
    if (this.#text.length > this.#limit) {
      throw new LimitError(`sparse map of ${displayName(this.#name)}`, this.#limit, 'bytes')
    }
    for (const byte of block) if (byte === newline) this.#lines += 1
    if (this.#lines === 0) return undefined
    this.#wanted ??= 2 * this.#count()
    if (this.#lines <= this.#wanted) return undefined
    return parseSparsePairs(this.#text.split('\n', this.#wanted + 1).slice(1), this.#name)
  }

  #count(): number {
    const count = parseDecimal(this.#text.slice(0, this.#text.indexOf('\n')), 'sparse count', this.#name)
    checkCount(count, this.#name)
    return count
  }
}

/** @throws LimitError when a map has too many pieces. */
export function checkCount(count: number, name: Buffer): void {
  if (count > maxSparseSegments) {
    throw new LimitError(`sparse map of ${displayName(name)}`, maxSparseSegments, 'pieces')
  }
}

/**
 * Checks that the pieces are in order, do not overlap, lie in the file and are together what the archive holds.
 * @throws LayerError
 */
export function checkSparse(segments: readonly SparseSegment[], realSize: number, stored: number, name: Buffer): void {
  checkCount(segments.length, name)
  let end = 0
  let total = 0
  for (const { offset, length } of segments) {
    if (offset < end || offset + length > realSize) throw entryError(name, 'its sparse map is out of order')
    end = offset + length
    total += length
  }
  if (total !== stored) throw entryError(name, 'its sparse map does not fit its content')
}

/** Hands the stored pieces of a sparse file on as data, and what lies between them as holes. */
export class SparseContent {
  readonly #segments: readonly SparseSegment[]
  readonly #size: number
  readonly #handler: TarHandler
  #segment = 0
  #position = 0

  /** `segments` must have passed {@link checkSparse}. */
  constructor(segments: readonly SparseSegment[], size: number, handler: TarHandler) {
    this.#segments = segments
    this.#size = size
    this.#handler = handler
  }

  /** Takes the next stored bytes. */
  take(bytes: Buffer): void {
    let at = 0
    while (at < bytes.length) {
      const { offset, length } = this.#segments[this.#segment] as SparseSegment
      this.#holeUpTo(offset)
      const piece = bytes.subarray(at, at + offset + length - this.#position)
      if (piece.length > 0) this.#handler.data(piece)
      at += piece.length
      this.#position += piece.length
      if (this.#position === offset + length) this.#segment += 1
    }
  }

  /** Says that all stored bytes have come. */
  finish(): void {
    this.#holeUpTo(this.#size)
  }

  #holeUpTo(end: number): void {
    if (this.#position >= end) return
    this.#handler.hole(end - this.#position)
    this.#position = end
  }
}
