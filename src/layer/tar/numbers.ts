import { entryError, type Timestamp } from './entry.ts'

const space = 0x20
const zero = 0x30
const seven = 0x37
const nine = 0x39
const minus = 0x2d
const point = 0x2e

/**
 * A number field of a header: octal digits, padded with spaces or NULs, or GNU base-256 when the
 * first bit is set. An empty field is 0. `name` is the entry's name, for the error.
 * @throws LayerError when the field is neither, or too large to be exact.
 */
export function parseNumber(block: Buffer, start: number, length: number, field: string, name: Buffer): number {
  const end = start + length
  if (((block[start] ?? 0) & 0x80) !== 0) {
    const value = parseBase256(block, start, end, field, name)
    if (value < 0) throw entryError(name, `its ${field} is negative`)
    return value
  }
  let at = start
  while (at < end && (block[at] === space || block[at] === 0)) at += 1
  let value = 0
  for (; at < end; at += 1) {
    const digit = block[at] ?? 0
    if (digit === 0 || digit === space) break
    if (digit < zero || digit > seven) throw entryError(name, `its ${field} is no octal number`)
    value = value * 8 + (digit - zero)
  }
  return value
}

/** A time field of a header: as {@link parseNumber}, but it may be negative. Seconds. */
export function parseSeconds(block: Buffer, start: number, length: number, field: string, name: Buffer): number {
  const encoded = ((block[start] ?? 0) & 0x80) !== 0
  return encoded
    ? parseBase256(block, start, start + length, field, name)
    : parseNumber(block, start, length, field, name)
}

function parseBase256(block: Buffer, start: number, end: number, field: string, name: Buffer): number {
  const negative = ((block[start] ?? 0) & 0x40) !== 0
  let value = negative ? -1 : 0
  for (let at = start; at < end; at += 1) {
    let byte = block[at] ?? 0
    // The first bit only marks the encoding; of a negative number it is a sign bit like the next one.
    if (at === start && !negative) byte &= 0x7f
    value = value * 256 + byte
    if (!Number.isSafeInteger(value)) throw entryError(name, `its ${field} is out of range`)
  }
  return value
}

/** A decimal integer of a PAX record, at most 2^53 - 1. @throws LayerError for anything else. */
export function parseDecimal(text: string, field: string, name: Buffer): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN
  if (!Number.isSafeInteger(value)) throw entryError(name, `its ${field} is no decimal number`)
  return value
}

/** A time of a PAX record, the bytes of `text` from `from` to `end`: `-12.345678901`; digits beyond nanoseconds are cut. @throws LayerError. */
export function parsePaxTime(text: Buffer, from: number, end: number, field: string, name: Buffer): Timestamp {
  const start = text[from] === minus ? from + 1 : from
  let at = start
  let whole = 0
  for (; at < end && isDigit(text[at]); at += 1) whole = whole * 10 + (text[at] as number) - zero
  const digits = at - start
  let fraction = 0
  if (at < end && text[at] === point) {
    at += 1
    for (let unit = 100_000_000; at < end && isDigit(text[at]); at += 1) {
      fraction += ((text[at] as number) - zero) * unit
      unit = Math.floor(unit / 10)
    }
  }
  if (digits === 0 || digits > 15 || at < end) throw entryError(name, `its ${field} is no time`)
  if (start === from) return { seconds: whole, nanoseconds: fraction }
  if (fraction === 0) return { seconds: whole === 0 ? 0 : -whole, nanoseconds: 0 }
  return { seconds: -whole - 1, nanoseconds: 1_000_000_000 - fraction }
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= zero && byte <= nine
}
