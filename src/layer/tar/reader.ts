import { type LayerError, LimitError } from '../../errors.ts'
import { type CompleteLimits, completeLimits, type LayerLimits } from '../limits.ts'
import { displayName, entryError, type TarEntry, type TarEntryType, type TarHandler, type Xattr } from './entry.ts'
import {
  blockSize,
  type Header,
  isMeta,
  isZeroBlock,
  meta,
  paddingOf,
  parseHeader,
  type Words,
  wordsOf,
} from './header.ts'
import { parseNumber } from './numbers.ts'
import { type PaxFields, parsePax } from './pax.ts'
import { checkCount, checkSparse, parseOldSparse, SparseContent, SparseMapText, type SparseSegment } from './sparse.ts'

/**
 * What the next bytes are: a header; the body of a header that is about the next entry; more of an old
 * sparse map; a sparse map in front of the content; content; padding; or nothing that matters any more.
 */
type State = 'header' | 'meta' | 'oldSparse' | 'sparseText' | 'content' | 'padding' | 'ended'

/** The type of an entry, by its flag: V7 has none, `7` was for files of one extent, `S` is a sparse file of GNU's. */
const types: readonly (TarEntryType | undefined)[] = typesByFlag({
  '\0': 'file',
  '0': 'file',
  '7': 'file',
  S: 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'character',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
})

function typesByFlag(types: Readonly<Record<string, TarEntryType>>): readonly (TarEntryType | undefined)[] {
  return Array.from({ length: 256 }, (_, flag) => types[String.fromCharCode(flag)])
}

const sparseFlag = 0x53
/** Headers about one entry that may follow each other. More is an attempt to keep us busy. */
const maxMetaHeaders = 16
/** Most content that is handed on at a time, in bytes. */
const maxPiece = 128 * 1024
const never = (): boolean => false
const noXattrs: readonly Xattr[] = []
const noBytes = Buffer.alloc(0)
const headerName = Buffer.from('(header)')

/**
 * Reads a tar archive from chunks as they come, exactly to the byte: V7, ustar, PAX (values are bytes;
 * global headers have no effect, as in every peer), GNU long names, base-256 numbers and all forms of
 * sparse files. Synchronous: when `write` returns, the handler has seen all that the chunk completes.
 *
 * Reading stops at the end-of-archive marker; what follows is taken and ignored, so that a caller can go
 * on hashing the stream.
 */
export class TarReader {
  readonly #handler: TarHandler
  readonly #limits: CompleteLimits
  #state: State = 'header'
  /** Bytes of the present body that are to come. */
  #remaining = 0
  /** Bytes between the end of the present body and the next block. */
  #padding = 0
  /** A block, or a body, of which only the beginning has come. */
  #partial: Buffer[] = []
  #partialLength = 0
  #meta: Header | undefined
  #metaCount = 0
  #longName: Buffer | undefined
  #longLink: Buffer | undefined
  #pax: PaxFields | undefined
  #sawZeroBlock = false
  #entries = 0
  #content = 0
  /** The entry whose content is being read, and when it is sparse its map, as far as it is known. */
  #entry: TarEntry | undefined
  #segments: SparseSegment[] = []
  #sparse: SparseContent | undefined
  #sparseMap: SparseMapText | undefined

  /** @throws InvalidArgumentError for a bad limit. */
  constructor(handler: TarHandler, limits?: LayerLimits) {
    this.#handler = handler
    this.#limits = completeLimits(limits)
  }

  /** Entries seen so far. */
  get entries(): number {
    return this.#entries
  }

  /** Whether the end-of-archive marker has been read. */
  get ended(): boolean {
    return this.#state === 'ended'
  }

  /**
   * Takes the next bytes, those of `chunk` from `start` on, until `isEnough` says so. Content is handed on as views into
   * `chunk`.
   * @param isEnough asked after each header and each piece of content. Default: all is taken.
   * @returns how far it has come: the end of `chunk`, or where to go on.
   * @throws LayerError for a malformed archive, LimitError beyond a limit, and what the handler throws.
   */
  write(chunk: Buffer, start = 0, isEnough: () => boolean = never): number {
    let at = start
    const words = wordsOf(chunk)
    while (at < chunk.length) {
      switch (this.#state) {
        case 'ended':
          return chunk.length
        case 'padding':
          at = this.#takePadding(chunk, at)
          continue
        case 'content':
          at = this.#takeContent(chunk, at)
          break
        default:
          at = this.#takeBlock(chunk, at, words)
      }
      if (isEnough()) break
    }
    return at
  }

  /**
   * Says that no more bytes will come. An archive may end without its marker, and an empty one is valid.
   * @throws LayerError when it ends inside an entry.
   */
  end(): void {
    // Some archivers leave out the padding of the last entry.
    const between = this.#state === 'header' || this.#state === 'padding' || this.#state === 'ended'
    if (!between || this.#partialLength > 0 || this.#metaCount > 0) {
      throw this.#malformed('the archive ends in the middle of it')
    }
    this.#state = 'ended'
  }

  /** The name that errors give. */
  #name(): Buffer {
    return this.#entry?.name ?? this.#meta?.name ?? headerName
  }

  #malformed(message: string): LayerError {
    return entryError(this.#name(), message)
  }

  /** Gathers a block or the body of a meta header, then acts on it. */
  #takeBlock(chunk: Buffer, at: number, words: Words): number {
    const wanted = this.#state === 'meta' ? this.#remaining : blockSize
    const missing = wanted - this.#partialLength
    if (this.#partialLength === 0 && chunk.length - at >= wanted) {
      this.#act(chunk, at, at + wanted, words)
      return at + wanted
    }
    const piece = chunk.subarray(at, at + missing)
    this.#partial.push(Buffer.from(piece))
    this.#partialLength += piece.length
    if (this.#partialLength === wanted) {
      const whole = Buffer.concat(this.#partial, wanted)
      this.#partial = []
      this.#partialLength = 0
      this.#act(whole, 0, wanted, wordsOf(whole))
    }
    return at + piece.length
  }

  #act(bytes: Buffer, start: number, end: number, words: Words): void {
    if (this.#state === 'header') this.#header(bytes, start, words)
    else if (this.#state === 'meta') this.#metaBody(bytes, start, end)
    else if (this.#state === 'oldSparse') this.#oldSparse(bytes.subarray(start, end))
    else this.#sparseMapBlock(bytes.subarray(start, end))
  }

  #header(bytes: Buffer, start: number, words: Words): void {
    if (isZeroBlock(bytes, start)) {
      if (this.#metaCount > 0) throw this.#malformed('no entry follows its extended header')
      if (this.#sawZeroBlock) this.#state = 'ended'
      this.#sawZeroBlock = true
      return
    }
    if (this.#sawZeroBlock) throw this.#malformed('a block of zeros is followed by more entries')
    const header = parseHeader(bytes, start, words)
    if (isMeta(header.typeFlag)) this.#beginMeta(header)
    else this.#beginEntry(header, bytes, start)
  }

  #beginMeta(header: Header): void {
    this.#metaCount += 1
    this.#meta = header
    if (this.#metaCount > maxMetaHeaders) {
      throw new LimitError(`headers before ${displayName(header.name)}`, maxMetaHeaders, 'headers')
    }
    if (header.size > this.#limits.maxHeader) {
      throw new LimitError(`extended header ${displayName(header.name)}`, this.#limits.maxHeader, 'bytes')
    }
    this.#remaining = header.size
    this.#padding = paddingOf(header.size)
    this.#state = 'meta'
    if (header.size === 0) this.#metaBody(noBytes, 0, 0)
  }

  #metaBody(bytes: Buffer, start: number, end: number): void {
    const header = this.#meta as Header
    switch (header.typeFlag) {
      case meta.pax:
        this.#pax = parsePax(bytes, start, end, header.name)
        break
      case meta.longName:
        this.#longName = untilNul(bytes.subarray(start, end))
        break
      case meta.longLink:
        this.#longLink = untilNul(bytes.subarray(start, end))
        break
      case meta.global:
        // It is about no entry in particular, so the archive may end behind it.
        this.#metaCount -= 1
        break
    }
    this.#pad(this.#padding)
  }

  #beginEntry(header: Header, bytes: Buffer, start: number): void {
    const pax = this.#pax
    const name = this.#longName ?? pax?.sparse?.name ?? pax?.path ?? header.name
    this.#entries += 1
    if (this.#entries > this.#limits.maxEntries) throw new LimitError('layer', this.#limits.maxEntries, 'entries')
    let type = types[header.typeFlag]
    if (type === undefined) {
      throw entryError(name, `it has the unknown type ${JSON.stringify(String.fromCharCode(header.typeFlag))}`)
    }
    // Before there was a type for directories, a slash at the end marked them.
    if (header.typeFlag === 0 && name[name.length - 1] === 0x2f) type = 'directory'
    const stored = type === 'file' ? (pax?.size ?? header.size) : 0
    const sparse = type === 'file' && (header.typeFlag === sparseFlag || pax?.sparse !== undefined)
    this.#entry = {
      type,
      name,
      linkName:
        type === 'symlink' || type === 'hardlink' ? (this.#longLink ?? pax?.linkPath ?? header.linkName) : noBytes,
      mode: header.mode & 0o7777,
      uid: pax?.uid ?? header.uid,
      gid: pax?.gid ?? header.gid,
      size: stored,
      mtime: pax?.mtime ?? { seconds: header.mtime, nanoseconds: 0 },
      deviceMajor: header.deviceMajor,
      deviceMinor: header.deviceMinor,
      xattrs: pax?.xattrs === undefined ? noXattrs : Array.from(pax.xattrs, ([key, value]) => ({ name: key, value })),
    }
    this.#remaining = stored
    this.#padding = paddingOf(stored)
    this.#pax = this.#longName = this.#longLink = this.#meta = undefined
    this.#metaCount = 0
    if (sparse) this.#beginSparse(bytes.subarray(start, start + blockSize), pax)
    else this.#announce(stored)
  }

  #beginSparse(block: Buffer, pax: PaxFields | undefined): void {
    const entry = this.#entry as TarEntry
    const form = pax?.sparse
    if (form === undefined) {
      this.#entry = { ...entry, size: parseNumber(block, 483, 12, 'sparse size', entry.name) }
      this.#segments = parseOldSparse(block, 386, 4, entry.name)
      if (block[482] === 0) this.#announceSparse()
      else this.#state = 'oldSparse'
      return
    }
    this.#entry = { ...entry, size: form.realSize ?? entry.size }
    if (form.major === 0) {
      this.#segments = form.map ?? []
      this.#announceSparse()
    } else {
      if (this.#remaining === 0) throw this.#malformed('its sparse map is missing')
      this.#sparseMap = new SparseMapText(entry.name, this.#limits.maxHeader)
      this.#state = 'sparseText'
    }
  }

  #oldSparse(block: Buffer): void {
    this.#segments.push(...parseOldSparse(block, 0, 21, this.#name()))
    checkCount(this.#segments.length, this.#name())
    if (block[504] === 0) this.#announceSparse()
  }

  #sparseMapBlock(block: Buffer): void {
    this.#remaining -= blockSize
    if (this.#remaining < 0) throw this.#malformed('its sparse map is longer than its content')
    const segments = this.#sparseMap?.push(block)
    if (segments === undefined) return
    this.#sparseMap = undefined
    this.#segments = segments
    this.#announceSparse()
  }

  #announceSparse(): void {
    const entry = this.#entry as TarEntry
    checkSparse(this.#segments, entry.size, this.#remaining, entry.name)
    this.#sparse = new SparseContent(this.#segments, entry.size, this.#handler)
    this.#announce(entry.size)
  }

  #announce(size: number): void {
    this.#content += size
    if (this.#content > this.#limits.maxContent) {
      throw new LimitError(`content of the layer up to ${displayName(this.#name())}`, this.#limits.maxContent, 'bytes')
    }
    this.#handler.entry(this.#entry as TarEntry)
    if (this.#remaining === 0) this.#endEntry()
    else this.#state = 'content'
  }

  #takeContent(chunk: Buffer, at: number): number {
    const available = Math.min(this.#remaining, chunk.length - at, maxPiece)
    const bytes = chunk.subarray(at, at + available)
    if (this.#sparse === undefined) this.#handler.data(bytes)
    else this.#sparse.take(bytes)
    this.#remaining -= available
    if (this.#remaining === 0) this.#endEntry()
    return at + available
  }

  #endEntry(): void {
    this.#sparse?.finish()
    this.#sparse = undefined
    this.#handler.entryEnd()
    this.#entry = undefined
    this.#pad(this.#padding)
  }

  /** Moves on to the next header, over the padding. */
  #pad(padding: number): void {
    this.#padding = padding
    this.#state = padding > 0 ? 'padding' : 'header'
  }

  #takePadding(chunk: Buffer, at: number): number {
    const step = Math.min(this.#padding, chunk.length - at)
    this.#pad(this.#padding - step)
    return at + step
  }
}

function untilNul(body: Buffer): Buffer {
  const end = body.indexOf(0)
  return Buffer.from(end === -1 ? body : body.subarray(0, end))
}
