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
  /** The byte at 156: `'0'`, `'5'`, `'x'`, `'L'`, … ; NUL in V7 archives. */
  readonly typeFlag: string
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
  readonly format: 'v7' | 'ustar' | 'star' | 'gnu'
}

/** Whether 512 bytes at `start` are all zero. */
export function isZeroBlock(bytes: Buffer, start: number): boolean {
  for (let i = start; i < start + blockSize; i += 1) if (bytes[i] !== 0) return false
  return true
}

/**
 * Decodes one header block: V7, POSIX ustar, star or GNU.
 * @throws LayerError when the checksum is wrong or a number is none.
 */
export function parseHeader(block: Buffer): Header {
  const format = formatOf(block)
  const base = field(block, 0, 100)
  const prefixed = format === 'ustar' ? field(block, 345, 155) : format === 'star' ? field(block, 345, 131) : undefined
  const name =
    prefixed === undefined || prefixed.length === 0
      ? Buffer.from(base)
      : Buffer.concat([prefixed, Buffer.from('/'), base])
  checkSum(block, name)
  const typeFlag = String.fromCharCode(block[156] ?? 0)
  const isDevice = typeFlag === '3' || typeFlag === '4'
  return {
    typeFlag,
    name,
    linkName: block[157] === 0 ? noName : Buffer.from(field(block, 157, 100)),
    mode: parseNumber(block, 100, 8, 'mode', name),
    uid: parseNumber(block, 108, 8, 'uid', name),
    gid: parseNumber(block, 116, 8, 'gid', name),
    size: parseNumber(block, 124, 12, 'size', name),
    mtime: parseSeconds(block, 136, 12, 'mtime', name),
    // Other types may have anything here, spaces for example.
    deviceMajor: isDevice && format !== 'v7' ? parseNumber(block, 329, 8, 'device major', name) : 0,
    deviceMinor: isDevice && format !== 'v7' ? parseNumber(block, 337, 8, 'device minor', name) : 0,
    format,
  }
}

const noName = Buffer.alloc(0)

function formatOf(block: Buffer): Header['format'] {
  const magic = block.toString('latin1', 257, 265)
  if (magic === 'ustar  \0') return 'gnu'
  if (!magic.startsWith('ustar\0')) return 'v7'
  return block.toString('latin1', 508, 512) === 'tar\0' ? 'star' : 'ustar'
}

function field(block: Buffer, start: number, length: number): Buffer {
  const whole = block.subarray(start, start + length)
  const end = whole.indexOf(0)
  return end === -1 ? whole : whole.subarray(0, end)
}

/** Old archivers summed signed bytes; both sums are right. */
function checkSum(block: Buffer, name: Buffer): void {
  let unsigned = 8 * 0x20
  let high = 0
  for (let i = 0; i < blockSize; i += 1) {
    if (i === 148) i = 156
    const byte = block[i] as number
    unsigned += byte
    high += byte >> 7
  }
  const wanted = parseNumber(block, 148, 8, 'checksum', name)
  if (wanted !== unsigned && wanted !== unsigned - high * 256) {
    throw entryError(name, 'its header has a wrong checksum: this is no tar archive, or it is damaged')
  }
}
