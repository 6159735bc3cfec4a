import { isUtf8 } from 'node:buffer'
import { entryError, type Timestamp } from './entry.ts'
import { parseDecimal, parsePaxTime } from './numbers.ts'
import { parseSparsePairs, type SparseSegment } from './sparse.ts'

/** What the extended header in front of an entry says of it; what is absent stands in the entry's own header. */
export interface PaxFields {
  path: Buffer | undefined
  linkPath: Buffer | undefined
  size: number | undefined
  uid: number | undefined
  gid: number | undefined
  mtime: Timestamp | undefined
  /** By name; a later record of the same name wins. */
  xattrs: Map<string, Buffer> | undefined
  sparse: PaxSparse | undefined
}

/** All fields from the start: objects of one shape are read quicker. */
function noFields(): PaxFields {
  return {
    path: undefined,
    linkPath: undefined,
    size: undefined,
    uid: undefined,
    gid: undefined,
    mtime: undefined,
    xattrs: undefined,
    sparse: undefined,
  }
}

/** GNU's records for sparse files, in one of their three forms. */
export interface PaxSparse {
  /** 1 when the map stands in front of the content (form 1.0). */
  major: number
  name?: Buffer
  /** Bytes of the file with its holes. */
  realSize?: number
  /** The map, of forms 0.0 and 0.1. */
  map?: SparseSegment[]
}

const xattrPrefix = 'SCHILY.xattr.'
const sparsePrefix = 'GNU.sparse.'
const equals = 0x3d
const newline = 0x0a
const blank = 0x20

/**
 * Parses the body of a PAX extended header, which lies in `body` from `start` to `stop`: `length keyword=value\n`, value as
 * bytes (POSIX.1-2008, pax, "pax Extended Header"). A record with an empty value takes the keyword back.
 * @throws LayerError for malformed records.
 */
export function parsePax(body: Buffer, start: number, stop: number, subject: Buffer): PaxFields {
  const fields = noFields()
  const pairs: string[] = []
  let at = start
  while (at < stop) {
    const end = at + recordLength(body, at, stop, subject)
    const isWhole = end <= stop && body[end - 1] === newline
    const keyStart = isWhole ? find(body, blank, at, end) + 1 : end
    const split = isWhole ? find(body, equals, keyStart, end) : end
    if (split < keyStart + 1 || split >= end) {
      throw entryError(subject, 'its extended header has a malformed record')
    }
    const initial = body[keyStart] as number
    // Most records are the three times: of access and of change mean nothing here.
    if (initial === mtimeInitial && isMtime(body, keyStart, split)) {
      fields.mtime = split + 2 === end ? undefined : parsePaxTime(body, split + 1, end - 1, 'mtime', subject)
    } else if (initials[initial] === 1) {
      apply(fields, pairs, body.toString('latin1', keyStart, split), body.subarray(split + 1, end - 1), subject)
    }
    at = end
  }
  if (fields.sparse !== undefined && pairs.length > 0) fields.sparse.map = parseSparsePairs(pairs, subject)
  return fields
}

/** Where a byte is; `end` when it is not there. What is so near is found sooner here than by a call into Node. */
function find(body: Buffer, byte: number, from: number, end: number): number {
  let at = from
  while (at < end && body[at] !== byte) at += 1
  return at
}

function recordLength(body: Buffer, at: number, stop: number, subject: Buffer): number {
  let length = 0
  for (let i = at; i < at + 8 && i < stop; i += 1) {
    const byte = body[i] ?? 0
    if (byte === blank && i > at) {
      if (length < i - at + 4) break
      return length
    }
    if (byte < 0x30 || byte > 0x39) break
    length = length * 10 + byte - 0x30
  }
  throw entryError(subject, 'its extended header has a record without a valid length')
}

type Setter = (fields: PaxFields, value: Buffer, subject: Buffer) => void

function setter<K extends 'path' | 'linkPath' | 'size' | 'uid' | 'gid'>(
  key: K,
  parse: (value: Buffer, keyword: string, subject: Buffer) => NonNullable<PaxFields[K]>,
): Setter {
  return (fields, value, subject) => {
    fields[key] = value.length === 0 ? undefined : parse(value, key, subject)
  }
}

const decimal = (value: Buffer, keyword: string, subject: Buffer): number =>
  parseDecimal(value.toString('latin1'), keyword, subject)

const setters: ReadonlyMap<string, Setter> = new Map([
  ['path', setter('path', nameOf)],
  ['linkpath', setter('linkPath', nameOf)],
  ['size', setter('size', decimal)],
  ['uid', setter('uid', decimal)],
  ['gid', setter('gid', decimal)],
])

const keywords: readonly string[] = [...setters.keys(), xattrPrefix, sparsePrefix]

/** 1 for the first bytes of the keywords that mean something. */
const initials = Uint8Array.from({ length: 256 }, (_, byte) =>
  keywords.some((key) => key.charCodeAt(0) === byte) ? 1 : 0,
)

const mtime = Buffer.from('mtime')
const mtimeInitial = mtime[0] as number

function isMtime(body: Buffer, start: number, end: number): boolean {
  if (end - start !== mtime.length) return false
  for (let i = 0; i < mtime.length; i += 1) if (body[start + i] !== mtime[i]) return false
  return true
}

function apply(fields: PaxFields, pairs: string[], key: string, value: Buffer, subject: Buffer): void {
  if (key.startsWith(xattrPrefix)) setXattr(fields, key.slice(xattrPrefix.length), value, subject)
  else if (key.startsWith(sparsePrefix)) setSparse(fields, pairs, key.slice(sparsePrefix.length), value, subject)
  else setters.get(key)?.(fields, value, subject)
}

function setSparse(fields: PaxFields, pairs: string[], key: string, value: Buffer, subject: Buffer): void {
  fields.sparse ??= { major: 0 }
  const { sparse } = fields
  switch (key) {
    case 'major':
      sparse.major = decimal(value, key, subject)
      break
    case 'name':
      sparse.name = nameOf(value, key, subject)
      break
    case 'size':
    case 'realsize':
      sparse.realSize = decimal(value, key, subject)
      break
    case 'map':
      // An empty map is a file that is one hole.
      sparse.map = []
      if (value.length > 0) for (const part of value.toString('latin1').split(',')) pairs.push(part)
      break
    case 'offset':
    case 'numbytes':
      pairs.push(value.toString('latin1'))
      break
  }
}

function nameOf(value: Buffer, keyword: string, subject: Buffer): Buffer {
  if (value.includes(0)) throw entryError(subject, `the ${keyword} in its extended header has a NUL byte in it`)
  return Buffer.from(value)
}

function setXattr(fields: PaxFields, key: string, value: Buffer, subject: Buffer): void {
  const name = Buffer.from(key, 'latin1')
  if (name.length === 0 || name.includes(0) || !isUtf8(name)) {
    throw entryError(subject, 'an extended attribute has a name that no file system can hold')
  }
  fields.xattrs ??= new Map()
  fields.xattrs.set(name.toString('utf8'), Buffer.from(value))
}
