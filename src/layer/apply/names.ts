import { LayerError } from '../../errors.ts'

/**
 * Names inside the planner are strings of bytes: latin1, one character a byte. Nothing is lost that
 * way, and they serve as keys.
 */
export type ByteString = string

/** Longest path that the kernel takes, without the NUL (PATH_MAX). */
const maxPath = 4095
/** Longest component (NAME_MAX). */
const maxComponent = 255

/** Whether {@link normalize} has anything to do beyond cutting slashes off the ends. */
const untidy = /(?:^|\/)\.{0,2}(?:\/|$)/

/**
 * Makes a relative path without empty, `.` and `..` components of a name; the empty path is the root of
 * the layer. Absolute names are relative to the root, as in every peer.
 * @throws LayerError when `..` leads above the root.
 */
export function normalize(name: ByteString, entry: ByteString = name): ByteString {
  let start = name.startsWith('./') ? 2 : 0
  while (name.charCodeAt(start) === slash) start += 1
  let end = name.length
  while (end > start && name.charCodeAt(end - 1) === slash) end -= 1
  const cut = start === 0 && end === name.length ? name : name.slice(start, end)
  return untidy.test(cut) ? normalizeParts(cut, entry) : cut
}

const slash = 0x2f

function normalizeParts(name: ByteString, entry: ByteString): ByteString {
  const parts: string[] = []
  for (const part of name.split('/')) {
    if (part === '' || part === '.') continue
    if (part !== '..') parts.push(part)
    else if (parts.pop() === undefined) throw nameError(entry, 'its name leads out of the layer')
  }
  return parts.join('/')
}

/** What the last component of a name says (image-spec, layer.md, "Whiteouts"). */
export type NameKind =
  | { readonly kind: 'plain' }
  /** All that lower layers hold in the directory is gone. */
  | { readonly kind: 'opaque' }
  /** What lower layers hold under `name` is gone. */
  | { readonly kind: 'whiteout'; readonly name: ByteString }
  /** Bookkeeping of AUFS that has no meaning here. */
  | { readonly kind: 'ignored' }

const plain: NameKind = { kind: 'plain' }
const opaque: NameKind = { kind: 'opaque' }
const ignored: NameKind = { kind: 'ignored' }

/** Prefix of whiteouts. */
export const whiteoutPrefix = '.wh.'
/** Name of the mark that a directory hides all that lower layers have in it. */
export const opaqueMark = '.wh..wh..opq'
const metaPrefix = '.wh..wh.'

/** @throws LayerError for a whiteout of nothing, of the directory itself, or of its parent. */
export function classify(base: ByteString, entry: ByteString): NameKind {
  if (!base.startsWith(whiteoutPrefix)) return plain
  if (base === opaqueMark) return opaque
  if (base.startsWith(metaPrefix)) return ignored
  const name = base.slice(whiteoutPrefix.length)
  if (name === '' || name === '.' || name === '..') throw nameError(entry, 'it is a whiteout of no name')
  return { kind: 'whiteout', name }
}

/** Joins a directory's path and a component. */
export function join(directory: ByteString, base: ByteString): ByteString {
  return directory === '' ? base : `${directory}/${base}`
}

/** Checks what {@link join} would make. @throws LayerError beyond what the kernel takes. */
export function checkPath(directory: ByteString, base: ByteString, entry: ByteString): void {
  if (base.length > maxComponent) throw nameError(entry, `a part of its name is longer than ${maxComponent} bytes`)
  const length = directory === '' ? base.length : directory.length + 1 + base.length
  if (length > maxPath) throw nameError(entry, `its path is longer than ${maxPath} bytes`)
}

/** The error for an entry whose name is given as a string of bytes. */
export function nameError(entry: ByteString, message: string, hint?: string): LayerError {
  return new LayerError(bytesToText(entry), message, { hint })
}

/** A string of bytes as text for messages. */
export function bytesToText(name: ByteString): string {
  return isAscii(name) ? name : Buffer.from(name, 'latin1').toString('utf8')
}

/** Whether text and bytes are the same thing. */
export function isAscii(name: ByteString): boolean {
  for (let i = 0; i < name.length; i += 1) if (name.charCodeAt(i) > 0x7f) return false
  return true
}
