import { entryError } from './entry.ts'
import { parseNumber, parseSeconds } from './numbers.ts'

/** Bytes of a header, and the unit to which everything in an archive is padded. */
export const blockSize = 512

/** Bytes between the end of content of `size` bytes and the next block. */
export function paddingOf(size: number): number {
  const over = size % blockSize
  return over === 0 ? 0 : blockSize - over
}

/** A header block, decoded; fields that only some types use are decoded by {@link HeaderBlock} readers. */
export interface Header {
  /** The byte at 156: that of `0`, `5`, `x`, `L`, … ; 0 in V7 archives. */
  readonly typeFlag: number
  readonly name: Buffer
  readonly linkName: Buffer
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly size: number
  /** Whole seconds. */
  readonly mtime: number
  readonly deviceMajor: number
  readonly deviceMinor: number
}

/** Type flags of headers that are about the entry that follows: of such a header only its name and its size count. */
export const meta = { pax: 0x78, global: 0x67, longName: 0x4c, longLink: 0x4b } as const

/** Whether a header with this flag is about the entry that follows. */
export function isMeta(typeFlag: number): boolean {
  return typeFlag === meta.pax || typeFlag === meta.global || typeFlag === meta.longName || typeFlag === meta.longLink
}

/** The words of four bytes of a piece of an archive; undefined where they do not lie on addresses that are. */
export type Words = Int32Array | undefined

/** See {@link Words}. */
export function wordsOf(bytes: Buffer): Words {
  return bytes.byteOffset % 4 === 0 ? new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2) : undefined
}

/** Whether 512 bytes at `start` are all zero. */
export function isZeroBlock(bytes: Buffer, start: number): boolean {
  for (let i = start; i < start + blockSize; i += 1) if (bytes[i] !== 0) return false
  return true
}

/**
 * Decodes the header block at `start`: V7, POSIX ustar, star or GNU.
 * @param words those of `bytes`: most of the time of reading a header is spent on adding them up.
 * @throws LayerError when the checksum is wrong or a number is none.
 */
export function parseHeader(bytes: Buffer, start: number, words: Words): Header {
  const format = formatOf(bytes, start)
  const base = field(bytes, start, 100)
  const prefixLength = format === 'ustar' ? 155 : format === 'star' ? 131 : 0
  const isPrefixed = prefixLength > 0 && bytes[start + 345] !== 0
  const name = isPrefixed ? Buffer.concat([field(bytes, start + 345, prefixLength), Buffer.from('/'), base]) : base
  checkSum(bytes, start, words, name)
  const typeFlag = bytes[start + 156] as number
  // Of one object literal, because objects of one shape are made and read quicker.
  const isEntry = !isMeta(typeFlag)
  // Other types may have anything there, spaces for example.
  const isDevice = (typeFlag === 0x33 || typeFlag === 0x34) && format !== 'v7'
  return {
    typeFlag,
    name,
    linkName: isEntry && bytes[start + 157] !== 0 ? field(bytes, start + 157, 100) : noName,
    mode: isEntry ? parseNumber(bytes, start + 100, 8, 'mode', name) : 0,
    uid: isEntry ? parseNumber(bytes, start + 108, 8, 'uid', name) : 0,
    gid: isEntry ? parseNumber(bytes, start + 116, 8, 'gid', name) : 0,
    size: parseNumber(bytes, start + 124, 12, 'size', name),
    mtime: isEntry ? parseSeconds(bytes, start + 136, 12, 'mtime', name) : 0,
    deviceMajor: isDevice ? parseNumber(bytes, start + 329, 8, 'device major', name) : 0,
    deviceMinor: isDevice ? parseNumber(bytes, start + 337, 8, 'device minor', name) : 0,
  }
}

const noName = Buffer.alloc(0)

function formatOf(bytes: Buffer, start: number): 'v7' | 'ustar' | 'star' | 'gnu' {
  if (hasText(bytes, start + 257, 'ustar\0')) return hasText(bytes, start + 508, 'tar\0') ? 'star' : 'ustar'
  return hasText(bytes, start + 257, 'ustar  \0') ? 'gnu' : 'v7'
}

function hasText(bytes: Buffer, start: number, text: string): boolean {
  for (let i = 0; i < text.length; i += 1) if (bytes[start + i] !== text.charCodeAt(i)) return false
  return true
}

/** A copy of a field up to its NUL. Byte by byte: of so few it is the quickest way. */
function field(bytes: Buffer, start: number, length: number): Buffer {
  let end = start
  while (end < start + length && bytes[end] !== 0) end += 1
  const copy = Buffer.allocUnsafe(end - start)
  for (let i = start; i < end; i += 1) copy[i - start] = bytes[i] as number
  return copy
}

/** Old archivers summed signed bytes; both sums are right. The field of the sum itself counts as blanks. */
function checkSum(bytes: Buffer, start: number, words: Words, name: Buffer): void {
  const wanted = parseNumber(bytes, start + 148, 8, 'checksum', name)
  let unsigned = 8 * 0x20 + sumOfBlock(bytes, start, words)
  for (let i = 148; i < 156; i += 1) unsigned -= bytes[start + i] as number
  if (wanted === unsigned) return
  let high = 0
  for (let i = 0; i < blockSize; i += 1) if ((i < 148 || i >= 156) && (bytes[start + i] as number) > 0x7f) high += 1
  if (wanted !== unsigned - high * 256) {
    throw entryError(name, 'its header has a wrong checksum: this is no tar archive, or it is damaged')
  }
}

/** Of its bytes. Four are read and two are added at a time. */
function sumOfBlock(bytes: Buffer, start: number, words: Words): number {
  if (words === undefined || start % 4 !== 0) {
    let sum = 0
    for (let i = start; i < start + blockSize; i += 1) sum += bytes[i] as number
    return sum
  }
  // Each is two sums of 128 bytes, in 16 bits each.
  let [even, odd] = [0, 0]
  for (let at = start >> 2; at < (start + blockSize) >> 2; at += 1) {
    const word = words[at] as number
    even += word & 0xff00ff
    odd += (word >>> 8) & 0xff00ff
  }
  return (even & 0xffff) + (even >>> 16) + (odd & 0xffff) + (odd >>> 16)
}
