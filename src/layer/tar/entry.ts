import { LayerError } from '../../errors.ts'

/** The kinds of entries that a layer may hold (image-spec, layer.md, "File Types"). */
export type TarEntryType = 'file' | 'directory' | 'symlink' | 'hardlink' | 'character' | 'block' | 'fifo'

/** A point in time as the kernel keeps it. */
export interface Timestamp {
  /** Since 1970-01-01T00:00:00Z; may be negative. */
  readonly seconds: number
  /** 0 to 999,999,999; always counts forward from `seconds`. */
  readonly nanoseconds: number
}

/** An extended attribute. The value is bytes: file capabilities and ACLs are binary. */
export interface Xattr {
  /** Full name with its namespace: `security.capability`, `user.mime_type`. */
  readonly name: string
  readonly value: Buffer
}

/** One entry of a tar archive. Names are bytes, exactly as the archive has them; nothing is cleaned. */
export interface TarEntry {
  readonly type: TarEntryType
  readonly name: Buffer
  /** Target of a symbolic or hard link; empty for everything else. */
  readonly linkName: Buffer
  /** Permission bits with set-user-id, set-group-id and sticky: 0 to 0o7777. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** Bytes of the file's content, holes included; 0 for everything that is no file. */
  readonly size: number
  readonly mtime: Timestamp
  readonly deviceMajor: number
  readonly deviceMinor: number
  readonly xattrs: readonly Xattr[]
}

/** What a {@link TarReader} calls, in the order of the archive. An exception ends the reading. */
export interface TarHandler {
  /** A new entry. */
  entry(entry: TarEntry): void
  /** Content of the present entry. The bytes are a view into the chunk that was given to the reader. */
  data(chunk: Buffer): void
  /** `length` zero bytes of a sparse file, which no chunk brings. */
  hole(length: number): void
  /** The present entry is complete; called for every entry. */
  entryEnd(): void
}

/** A name for a message; names that are no UTF-8 get replacement characters. */
export function displayName(name: Buffer): string {
  return name.toString('utf8')
}

/** The error for an entry that can't be read or applied. `message` goes on after the name. */
export function entryError(name: Buffer, message: string): LayerError {
  return new LayerError(displayName(name), message)
}
