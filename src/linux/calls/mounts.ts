import { type Arg, type Call, type CallOptions, call } from '../call.ts'
import { AT_EMPTY_PATH, AT_FDCWD, type Fd } from './files.ts'

/** Flags of mount(2) (include/uapi/linux/mount.h). */
export const MS = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  NOEXEC: 8,
  SYNCHRONOUS: 16,
  REMOUNT: 32,
  MANDLOCK: 64,
  DIRSYNC: 128,
  NOSYMFOLLOW: 256,
  NOATIME: 1024,
  NODIRATIME: 2048,
  BIND: 4096,
  MOVE: 8192,
  REC: 16384,
  SILENT: 32768,
  POSIXACL: 0x10000,
  UNBINDABLE: 0x20000,
  PRIVATE: 0x40000,
  SLAVE: 0x80000,
  SHARED: 0x100000,
  RELATIME: 0x200000,
  I_VERSION: 0x800000,
  STRICTATIME: 0x1000000,
  LAZYTIME: 0x2000000,
} as const

export const MNT_DETACH = 2
export const UMOUNT_NOFOLLOW = 8

/** Attributes of mount_setattr(2) and fsmount(2). */
export const MOUNT_ATTR = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  NOEXEC: 8,
  NOATIME: 0x10,
  STRICTATIME: 0x20,
  NODIRATIME: 0x80,
  IDMAP: 0x100000,
  NOSYMFOLLOW: 0x200000,
} as const

/** The bits of an attribute set that choose the access-time mode. */
export const MOUNT_ATTR_ATIME = 0x70

/** mount(2). `source`, `type` and `data` may be 0 where the kernel ignores them. */
export function mount(
  source: string | 0,
  target: string,
  type: string | 0,
  flags: number,
  data: string | 0 = 0,
  options?: CallOptions,
): Call {
  return call('mount', [source, target, type, flags, data], { path: target, ...options })
}

export function umount2(target: string, flags: number, options?: CallOptions): Call {
  return call('umount2', [target, flags], { path: target, ...options })
}

export function pivotRoot(newRoot: string, putOld: string, options?: CallOptions): Call {
  return call('pivot_root', [newRoot, putOld], { path: newRoot, ...options })
}

/** fsopen(2), Linux 5.2: a context in which a file system is configured. Close-on-exec. */
export function fsopen(type: string, options?: CallOptions): Call {
  return call('fsopen', [type, 1], { path: type, ...options })
}

const FSCONFIG = { SET_FLAG: 0, SET_STRING: 1, SET_FD: 5, CMD_CREATE: 6 } as const

export function fsconfigString(fs: Fd, key: string, value: string, options?: CallOptions): Call {
  return call('fsconfig', [fs, FSCONFIG.SET_STRING, key, value, 0], { path: value, ...options })
}

/** fsconfig(2) with a descriptor as value; overlay takes layers so since Linux 6.13. */
export function fsconfigFd(fs: Fd, key: string, fd: Fd, options?: CallOptions): Call {
  return call('fsconfig', [fs, FSCONFIG.SET_FD, key, 0, fd], options)
}

export function fsconfigFlag(fs: Fd, key: string, options?: CallOptions): Call {
  return call('fsconfig', [fs, FSCONFIG.SET_FLAG, key, 0, 0], options)
}

export function fsconfigCreate(fs: Fd, options?: CallOptions): Call {
  return call('fsconfig', [fs, FSCONFIG.CMD_CREATE, 0, 0, 0], options)
}

/** fsmount(2): a mount that is attached nowhere yet. Close-on-exec. */
export function fsmount(fs: Fd, attributes = 0, options?: CallOptions): Call {
  return call('fsmount', [fs, 1, attributes], options)
}

const OPEN_TREE_CLONE = 1
const OPEN_TREE_CLOEXEC = 0o2000000

/** open_tree(2): a detached copy of the mount at `path` (with all below it when `recursive`). Close-on-exec. */
export function cloneTree(dir: Fd, path: string, recursive: boolean, options?: CallOptions): Call {
  const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? 0x8000 : 0) | (path === '' ? AT_EMPTY_PATH : 0)
  return call('open_tree', [dir, path, flags], { path, ...options })
}

const MOVE_MOUNT_F_EMPTY_PATH = 4
const MOVE_MOUNT_T_EMPTY_PATH = 0x40

/** move_mount(2): attaches the detached mount `from` on the directory or file that `to` is open on. */
export function attachMount(from: Fd, to: Fd, options?: CallOptions): Call {
  return call('move_mount', [from, '', to, '', MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH], options)
}

/** move_mount(2) onto a path. */
export function attachMountAt(from: Fd, path: string, options?: CallOptions): Call {
  return call('move_mount', [from, '', AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH], { path, ...options })
}

/** move_mount(2) onto a name in the directory that `to` is open on; not the one a symlink of that name leads to. */
export function attachMountIn(from: Fd, to: Fd, name: string, options?: CallOptions): Call {
  return call('move_mount', [from, '', to, name, MOVE_MOUNT_F_EMPTY_PATH], { path: name, ...options })
}

/** What {@link mountSetattr} changes. */
export interface MountAttributes {
  /** Bits of {@link MOUNT_ATTR} to set. */
  readonly set?: number
  /** Bits to clear; to change the access-time mode clear {@link MOUNT_ATTR_ATIME}. */
  readonly clear?: number
  /** One of MS.PRIVATE, SLAVE, SHARED, UNBINDABLE. */
  readonly propagation?: number
  /** Descriptor of the user namespace for MOUNT_ATTR.IDMAP. */
  readonly userNamespace?: number
}

/** mount_setattr(2), Linux 5.12. */
export function mountSetattr(
  dir: Fd,
  path: string,
  attributes: MountAttributes,
  recursive: boolean,
  options?: CallOptions,
): Call {
  const struct = Buffer.alloc(32)
  struct.writeBigUInt64LE(BigInt(attributes.set ?? 0), 0)
  struct.writeBigUInt64LE(BigInt(attributes.clear ?? 0), 8)
  struct.writeBigUInt64LE(BigInt(attributes.propagation ?? 0), 16)
  struct.writeBigUInt64LE(BigInt(attributes.userNamespace ?? 0), 24)
  const flags = (recursive ? 0x8000 : 0) | (path === '' ? AT_EMPTY_PATH : 0)
  const args: Arg[] = [dir, path, flags, struct, struct.length]
  return call('mount_setattr', args, { path, ...options })
}
