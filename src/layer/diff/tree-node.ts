import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG } from '../../linux/calls/files.ts'
import type { ByteString } from '../apply/names.ts'
import type { Timestamp, Xattr } from '../tar/entry.ts'

/** What a name in a tree can stand for. */
export type NodeType = 'file' | 'directory' | 'symlink' | 'character' | 'block' | 'fifo' | 'socket'

/** What the kernel says of a file, directory, or anything else. */
export interface NodeStat {
  readonly type: NodeType
  /** Permission bits with set-user-id, set-group-id and sticky. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** Bytes; of a file only. */
  readonly size: number
  readonly mtime: Timestamp
  readonly deviceMajor: number
  readonly deviceMinor: number
  /** The same for all names of one file, and for nothing else. */
  readonly inode: string
  /** Names it has. */
  readonly links: number
}

/** Something in a tree. */
export interface TreeNode extends NodeStat {
  /** Relative to the root of the tree, which has the empty path; bytes. */
  readonly path: ByteString
  /** Where the process that reads the tree finds it, when that is somewhere else than `path`. */
  readonly source?: ByteString
  /** Where a symlink points; else empty. */
  readonly target: Buffer
  /** As the file system has them. */
  readonly xattrs: readonly Xattr[]
}

/** Bytes of struct statx. */
export const statxSize = 256
/** Everything that statx(2) has told since its beginning. */
export const STATX_BASIC_STATS = 0x7ff

const types: ReadonlyMap<number, NodeType> = new Map([
  [S_IFREG, 'file'],
  [S_IFDIR, 'directory'],
  [S_IFLNK, 'symlink'],
  [S_IFCHR, 'character'],
  [S_IFBLK, 'block'],
  [S_IFIFO, 'fifo'],
])

/** Decodes struct statx (include/uapi/linux/stat.h). */
export function decodeStatx(bytes: Buffer): NodeStat {
  const mode = bytes.readUInt16LE(28)
  const type = types.get(mode & S_IFMT) ?? 'socket'
  return {
    type,
    mode: mode & 0o7777,
    uid: bytes.readUInt32LE(20),
    gid: bytes.readUInt32LE(24),
    size: type === 'file' ? Number(bytes.readBigUInt64LE(40)) : 0,
    mtime: { seconds: Number(bytes.readBigInt64LE(112)), nanoseconds: bytes.readUInt32LE(120) },
    deviceMajor: bytes.readUInt32LE(128),
    deviceMinor: bytes.readUInt32LE(132),
    inode: `${bytes.readUInt32LE(136)}:${bytes.readUInt32LE(140)}:${bytes.readBigUInt64LE(32)}`,
    links: bytes.readUInt32LE(16),
  }
}

/** Names in what getdents64(2) has written, without `.` and `..`. */
export function decodeNames(bytes: Buffer): ByteString[] {
  const names: ByteString[] = []
  for (let at = 0; at + 19 < bytes.length; ) {
    const size = bytes.readUInt16LE(at + 16)
    const end = bytes.indexOf(0, at + 19)
    const name = bytes.toString('latin1', at + 19, end)
    if (name !== '.' && name !== '..') names.push(name)
    at += size
  }
  return names
}
