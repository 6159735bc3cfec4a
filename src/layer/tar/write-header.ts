import { isAscii, isUtf8 } from 'node:buffer'
import { entryError, type TarEntry, type TarEntryType, type Timestamp } from './entry.ts'
import { blockSize, paddingOf } from './header.ts'
import { paxBody } from './write-pax.ts'

const flags: Readonly<Record<TarEntryType, string>> = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  character: '3',
  block: '4',
  directory: '5',
  fifo: '6',
}

const maxName = 100
const maxPrefix = 155
/** Largest numbers that octal fields of 8 and 12 bytes hold. */
const maxShort = 0o7777777
const maxLong = 0o77777777777
const slash = 0x2f

/**
 * What stands in front of an entry's content: a ustar header (POSIX.1-2008, pax, "ustar Interchange
 * Format") and, for what does not fit into it, an extended header before it. No names of owners are
 * written, and nothing that is not in `entry`: the same entry makes the same bytes.
 * @throws LayerError for what no tar archive can hold: an empty name, a NUL in it, an attribute whose name has `=`.
 */
export function writeHeader(entry: TarEntry): Buffer {
  checkEntry(entry)
  const records = new Map<string, Buffer>()
  const split = splitName(entry.name)
  if (split === undefined || isBeyondAscii(entry.name)) records.set('path', entry.name)
  if (entry.linkName.length > maxName || isBeyondAscii(entry.linkName)) records.set('linkpath', entry.linkName)
  if (entry.uid > maxShort) records.set('uid', decimal(entry.uid))
  if (entry.gid > maxShort) records.set('gid', decimal(entry.gid))
  if (entry.size > maxLong) records.set('size', decimal(entry.size))
  const { mtime } = entry
  if (mtime.nanoseconds !== 0 || mtime.seconds < 0 || mtime.seconds > maxLong) records.set('mtime', paxTime(mtime))
  for (const { name, value } of entry.xattrs) records.set(`SCHILY.xattr.${name}`, value)

  const header = block(flags[entry.type], split ?? [noBytes, entry.name.subarray(0, maxName)], entry)
  if (records.size === 0) return header
  const body = paxBody(records)
  const [prefix, base] = splitName(paxName(entry.name)) as Split
  const extended = block('x', [prefix, base], { ...plain, mode: 0o644, size: body.length })
  return Buffer.concat([extended, body, Buffer.alloc(paddingOf(body.length)), header])
}

type Split = readonly [prefix: Buffer, name: Buffer]

const noBytes = Buffer.alloc(0)
const plain = {
  linkName: noBytes,
  uid: 0,
  gid: 0,
  mtime: { seconds: 0, nanoseconds: 0 },
  deviceMajor: 0,
  deviceMinor: 0,
} as const

/**
 * Whether text belongs into an extended header, which has it as UTF-8. What is no UTF-8 is best left in the header:
 * every reader takes bytes there.
 */
function isBeyondAscii(name: Buffer): boolean {
  return !isAscii(name) && isUtf8(name)
}

function checkEntry({ name, linkName, deviceMajor, deviceMinor, xattrs }: TarEntry): void {
  if (name.length === 0) throw entryError(name, 'an entry must have a name')
  if (name.includes(0) || linkName.includes(0)) throw entryError(name, 'its name or target has a NUL byte in it')
  if (deviceMajor > maxShort || deviceMinor > maxShort) {
    throw entryError(name, `no device can have the number ${deviceMajor}:${deviceMinor}`)
  }
  for (const attribute of xattrs) {
    if (attribute.name === '' || /[=\0]/.test(attribute.name)) {
      throw entryError(name, `tar has no form for an attribute with the name ${JSON.stringify(attribute.name)}`)
    }
  }
}

/** The name as the fields of a header hold it; undefined when they can't. */
function splitName(name: Buffer): Split | undefined {
  if (name.length <= maxName) return [noBytes, name]
  // The slash between the fields is not written; the one at the end of a directory belongs to its name.
  for (let at = Math.min(maxPrefix, name.length - 2); at > 0; at -= 1) {
    if (name[at] !== slash) continue
    return name.length - at - 1 <= maxName ? [name.subarray(0, at), name.subarray(at + 1)] : undefined
  }
  return undefined
}

/** A name for the extended header, which tools show that do not know what it is. */
function paxName(name: Buffer): Buffer {
  const text = name.toString('latin1').replace(/\/+$/, '')
  const base = text.slice(text.lastIndexOf('/') + 1).replace(/[^ -~]/g, '_')
  return Buffer.from(`PaxHeaders.0/${base}`.slice(0, maxName), 'latin1')
}

function block(typeFlag: string, [prefix, name]: Split, entry: Omit<TarEntry, 'type' | 'name' | 'xattrs'>): Buffer {
  const header = Buffer.alloc(blockSize)
  name.copy(header, 0)
  octal(header, 100, 8, entry.mode)
  octal(header, 108, 8, fitting(entry.uid, maxShort))
  octal(header, 116, 8, fitting(entry.gid, maxShort))
  octal(header, 124, 12, fitting(entry.size, maxLong))
  octal(header, 136, 12, fitting(entry.mtime.seconds, maxLong))
  header.write(typeFlag, 156, 'latin1')
  entry.linkName.copy(header, 157, 0, maxName)
  header.write('ustar\x0000', 257, 'latin1')
  octal(header, 329, 8, entry.deviceMajor)
  octal(header, 337, 8, entry.deviceMinor)
  prefix.copy(header, 345)
  header.fill(' ', 148, 156)
  let sum = 0
  for (const byte of header) sum += byte
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return header
}

/** What stands in a field whose value is in the extended header: itself where it fits, else 0. */
function fitting(value: number, limit: number): number {
  return value >= 0 && value <= limit ? value : 0
}

function octal(header: Buffer, at: number, length: number, value: number): void {
  header.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1')
}

function decimal(value: number): Buffer {
  return Buffer.from(String(value))
}

/** `-1.5` is the time that the kernel has as -2 seconds and 500,000,000 nanoseconds. */
function paxTime({ seconds, nanoseconds }: Timestamp): Buffer {
  if (nanoseconds === 0) return decimal(seconds)
  const [whole, fraction] = seconds < 0 ? [-seconds - 1, 1_000_000_000 - nanoseconds] : [seconds, nanoseconds]
  const digits = String(fraction).padStart(9, '0').replace(/0+$/, '')
  return Buffer.from(`${seconds < 0 ? '-' : ''}${whole}.${digits}`)
}
