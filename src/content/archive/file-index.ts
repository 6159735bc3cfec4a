import type { FileHandle } from 'node:fs/promises'
import { ArchiveError, LimitError } from '../../errors.ts'
import { type ArchiveLimits, EntryCounter } from './limits.ts'
import { entryPath, linkTarget, maxLinks } from './paths.ts'
import { blockSize, padding, readHeader, type TarEntry } from './tar.ts'

/** Where in the file the content of an entry is. */
export interface Place {
  readonly offset: number
  readonly size: number
}

interface FileEntry extends Place {
  readonly entry: TarEntry
}

/** What is where in an archive that is a file. Only headers are read: contents are seeked over. */
export class FileIndex {
  readonly file: FileHandle
  readonly #entries: ReadonlyMap<string, FileEntry>

  private constructor(file: FileHandle, entries: ReadonlyMap<string, FileEntry>) {
    this.file = file
    this.#entries = entries
  }

  /** @throws ArchiveError @throws LimitError */
  static async read(file: FileHandle, limits: ArchiveLimits, signal: AbortSignal | undefined): Promise<FileIndex> {
    const counter = new EntryCounter(limits)
    const entries = new Map<string, FileEntry>()
    const { size: end } = await file.stat()
    let offset = 0
    const nextBlock = async (): Promise<Buffer | undefined> => {
      signal?.throwIfAborted()
      const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(blockSize), 0, blockSize, offset)
      offset += bytesRead
      if (bytesRead > 0 && bytesRead < blockSize) throw new ArchiveError('it is cut short, or no tar archive')
      return bytesRead === 0 ? undefined : buffer
    }
    for (;;) {
      const entry = await readHeader(nextBlock)
      if (entry === undefined) return new FileIndex(file, entries)
      const path = entryPath(entry.name)
      if (offset + entry.size > end) throw new ArchiveError('the archive is cut short within it', entry.name)
      counter.count(path, entry)
      // Of two files of one name the last one counts, as when they are extracted.
      if (entry.type !== 'directory' && entry.type !== 'other') entries.set(path, { entry, offset, size: entry.size })
      offset += entry.size + padding(entry.size)
    }
  }

  paths(): Iterable<string> {
    return this.#entries.keys()
  }

  /** The file that a path leads to, links followed; undefined when there is none. */
  find(path: string): Place | undefined {
    let current = path
    for (let links = 0; links <= maxLinks; links++) {
      const found = this.#entries.get(current)
      if (found === undefined || found.entry.type === 'file') return found
      current = linkTarget(current, found.entry)
    }
    throw new LimitError(`archive entry ${path}`, maxLinks, 'links')
  }

  /** A file's content, whole. @throws ArchiveError when it is missing or unreadable. @throws LimitError */
  async document(path: string, limit: number): Promise<Uint8Array> {
    const place = this.find(path)
    if (place === undefined) throw new ArchiveError('it is missing', path)
    if (place.size > limit) throw new LimitError(`archive entry ${path}`, limit, 'bytes')
    return this.bytes(place)
  }

  async bytes({ offset, size }: Place): Promise<Uint8Array> {
    const bytes = Buffer.alloc(size)
    for (let at = 0; at < size; ) {
      const { bytesRead } = await this.file.read(bytes, at, size - at, offset + at)
      if (bytesRead === 0) throw new ArchiveError('it is cut short')
      at += bytesRead
    }
    return bytes
  }
}
