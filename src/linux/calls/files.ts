import { type Arg, type Call, type CallOptions, call, type Out, struct } from '../call.ts'

/** Stands for the working directory where a call takes a directory descriptor. */
export const AT_FDCWD = -100

export const AT_SYMLINK_NOFOLLOW = 0x100
export const AT_REMOVEDIR = 0x200
export const AT_SYMLINK_FOLLOW = 0x400
export const AT_EMPTY_PATH = 0x1000
export const AT_RECURSIVE = 0x8000

/** Flags of `open`. Values that differ between x64 and arm64 are not here on purpose. */
export const O = {
  RDONLY: 0,
  WRONLY: 1,
  RDWR: 2,
  CREAT: 0o100,
  EXCL: 0o200,
  NOCTTY: 0o400,
  TRUNC: 0o1000,
  APPEND: 0o2000,
  NONBLOCK: 0o4000,
  CLOEXEC: 0o2000000,
  PATH: 0o10000000,
} as const

const byArchitecture = process.arch === 'arm64'
/** `O_DIRECTORY` and `O_NOFOLLOW` are swapped around on arm64 (arch/arm64/include/uapi/asm/fcntl.h). */
export const O_DIRECTORY: number = byArchitecture ? 0o40000 : 0o200000
export const O_NOFOLLOW: number = byArchitecture ? 0o100000 : 0o400000

/** Flags of `openat2`'s resolve field. */
export const RESOLVE = { NO_XDEV: 1, NO_MAGICLINKS: 2, NO_SYMLINKS: 4, BENEATH: 8, IN_ROOT: 16, CACHED: 32 } as const

export const S_IFMT = 0o170000
export const S_IFSOCK = 0o140000
export const S_IFLNK = 0o120000
export const S_IFREG = 0o100000
export const S_IFBLK = 0o060000
export const S_IFDIR = 0o040000
export const S_IFCHR = 0o020000
export const S_IFIFO = 0o010000

/** A descriptor: a number, or the call that opened it. */
export type Fd = number | Call

/** A device number as `mknod` takes it (include/linux/kdev_t.h, new_encode_dev). */
export function makeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & ~0xff) << 12)) >>> 0
}

/** openat(2). The descriptor is close-on-exec. */
export function openat(dir: Fd, path: string, flags: number, mode = 0, options?: CallOptions): Call {
  return call('openat', [dir, path, flags | O.CLOEXEC, mode], { path, ...options })
}

/** openat2(2), Linux 5.6: path resolution under restrictions ({@link RESOLVE}). Close-on-exec. */
export function openat2(
  dir: Fd,
  path: string,
  how: { readonly flags: number; readonly mode?: number; readonly resolve: number },
  options?: CallOptions,
): Call {
  const struct = Buffer.alloc(24)
  struct.writeBigUInt64LE(BigInt(how.flags | O.CLOEXEC), 0)
  struct.writeBigUInt64LE(BigInt(how.mode ?? 0), 8)
  struct.writeBigUInt64LE(BigInt(how.resolve), 16)
  return call('openat2', [dir, path, struct, struct.length], { path, ...options })
}

export function close(fd: Fd, options?: CallOptions): Call {
  return call('close', [fd], options)
}

/** close_range(2), Linux 5.9: closes `first` to `last`, or only marks them close-on-exec. */
export function closeRange(first: number, last: number, flags = 0, options?: CallOptions): Call {
  return call('close_range', [first, last, flags], options)
}
export const CLOSE_RANGE_CLOEXEC = 4

export function dup3(fd: Fd, to: number, flags: number | Call = 0, options?: CallOptions): Call {
  return call('dup3', [fd, to, flags], options)
}

export function fcntl(fd: Fd, command: number, arg: number, options?: CallOptions): Call {
  return call('fcntl', [fd, command, arg], options)
}
export const F_GETFD = 1
export const F_SETFD = 2
export const F_SETFL = 4
export const FD_CLOEXEC = 1
export const F_DUPFD_CLOEXEC = 1030
export const F_ADD_SEALS = 1033

export function read(fd: Fd, to: Out, options?: CallOptions): Call {
  return call('read', [fd, to, to.size], options)
}

/** write(2) of bytes, of a string, or of what an earlier call wrote to an {@link Out}. */
export function write(fd: Fd, content: string | Uint8Array | Out, options?: CallOptions): Call {
  const size =
    typeof content === 'string' ? Buffer.byteLength(content) : 'kind' in content ? content.size : content.length
  return call('write', [fd, content, size], options)
}

/** sendfile(2): copies at most `size` bytes from where `from` stands to `to`. */
export function sendfile(to: Fd, from: Fd, size: number, options?: CallOptions): Call {
  return call('sendfile', [to, from, 0, size], options)
}

/** writev(2) of what earlier calls wrote to several {@link Out}, in one piece. */
export function writev(fd: Fd, contents: readonly Out[], options?: CallOptions): Call {
  const vector = struct(contents.flatMap((content) => [content, content.size]))
  return call('writev', [fd, vector, contents.length], options)
}

export function mkdirat(dir: Fd, path: string, mode: number, options?: CallOptions): Call {
  return call('mkdirat', [dir, path, mode], { path, ...options })
}

/** mknodat(2). `mode` with the type bits; `device` by {@link makeDevice}. */
export function mknodat(dir: Fd, path: string, mode: number, device: number, options?: CallOptions): Call {
  return call('mknodat', [dir, path, mode, device], { path, ...options })
}

export function symlinkat(target: string, dir: Fd, path: string, options?: CallOptions): Call {
  return call('symlinkat', [target, dir, path], { path, ...options })
}

export function linkat(fromDir: Fd, from: string, dir: Fd, path: string, flags = 0, options?: CallOptions): Call {
  return call('linkat', [fromDir, from, dir, path, flags], { path, ...options })
}

export function unlinkat(dir: Fd, path: string, flags = 0, options?: CallOptions): Call {
  return call('unlinkat', [dir, path, flags], { path, ...options })
}

export function renameat2(fromDir: Fd, from: string, dir: Fd, to: string, flags = 0, options?: CallOptions): Call {
  return call('renameat2', [fromDir, from, dir, to, flags], { path: from, ...options })
}

export function readlinkat(dir: Fd, path: string, to: Out, options?: CallOptions): Call {
  return call('readlinkat', [dir, path, to, to.size], { path, ...options })
}

export function faccessat2(dir: Fd, path: string, mode: number, flags = 0, options?: CallOptions): Call {
  return call('faccessat2', [dir, path, mode, flags], { path, ...options })
}
export const X_OK = 1
/** Check with the effective ids, as exec does. */
export const AT_EACCESS = 0x200

export function fchmod(fd: Fd, mode: number, options?: CallOptions): Call {
  return call('fchmod', [fd, mode], options)
}

/** fchmodat(2): follows a symlink in the last component, always. */
export function fchmodat(dir: Fd, path: string, mode: number, options?: CallOptions): Call {
  return call('fchmodat', [dir, path, mode], { path, ...options })
}

export function fchown(fd: Fd, uid: number, gid: number, options?: CallOptions): Call {
  return call('fchown', [fd, uid, gid], options)
}

export function fchownat(dir: Fd, path: string, uid: number, gid: number, flags = 0, options?: CallOptions): Call {
  return call('fchownat', [dir, path, uid, gid, flags], { path, ...options })
}

/** A time for {@link utimensat}: seconds and nanoseconds since the epoch. */
export interface Timespec {
  readonly seconds: number
  readonly nanoseconds: number
}

/** utimensat(2): access and modification time, to the nanosecond. */
export function utimensat(
  dir: Fd,
  path: string | 0,
  accessed: Timespec,
  modified: Timespec,
  flags = 0,
  options?: CallOptions,
): Call {
  const times = Buffer.alloc(32)
  ;[accessed.seconds, accessed.nanoseconds, modified.seconds, modified.nanoseconds].forEach((value, index) => {
    times.writeBigInt64LE(BigInt(value), index * 8)
  })
  return call('utimensat', [dir, path, times, flags], path === 0 ? options : { path, ...options })
}

export function fsetxattr(fd: Fd, name: string, value: Uint8Array, flags = 0, options?: CallOptions): Call {
  return call('fsetxattr', [fd, name, value, value.length, flags], options)
}

/** lsetxattr(2): does not follow a symlink in the last component. */
export function lsetxattr(path: string, name: string, value: Uint8Array, flags = 0, options?: CallOptions): Call {
  return call('lsetxattr', [path, name, value, value.length, flags], { path, ...options })
}

export function lgetxattr(path: string, name: string, to: Out, options?: CallOptions): Call {
  return call('lgetxattr', [path, name, to, to.size], { path, ...options })
}

export function llistxattr(path: string, to: Out, options?: CallOptions): Call {
  return call('llistxattr', [path, to, to.size], { path, ...options })
}

export function lremovexattr(path: string, name: string, options?: CallOptions): Call {
  return call('lremovexattr', [path, name], { path, ...options })
}

export function ftruncate(fd: Fd, length: number, options?: CallOptions): Call {
  return call('ftruncate', [fd, length], options)
}

export function fsync(fd: Fd, options?: CallOptions): Call {
  return call('fsync', [fd], options)
}

/** syncfs(2): flushes the whole file system that `fd` is on. */
export function syncfs(fd: Fd, options?: CallOptions): Call {
  return call('syncfs', [fd], options)
}

export const LOCK = { SHARED: 1, EXCLUSIVE: 2, NONBLOCKING: 4, UNLOCK: 8 } as const

/** flock(2): the lock belongs to the open file and goes with it; the kernel releases it when a process dies. */
export function flock(fd: Fd, operation: number, options?: CallOptions): Call {
  return call('flock', [fd, operation], options)
}

export function getdents64(fd: Fd, to: Out, options?: CallOptions): Call {
  return call('getdents64', [fd, to, to.size], options)
}

/** statx(2) into 256 bytes (struct statx). */
export function statx(dir: Fd, path: string, flags: number, mask: number, to: Out, options?: CallOptions): Call {
  return call('statx', [dir, path, flags, mask, to], { path, ...options })
}

export function fstatfs(fd: Fd, to: Out, options?: CallOptions): Call {
  return call('fstatfs', [fd, to], options)
}

export function chdir(path: string, options?: CallOptions): Call {
  return call('chdir', [path], { path, ...options })
}

export function fchdir(fd: Fd, options?: CallOptions): Call {
  return call('fchdir', [fd], options)
}

export function chroot(path: string, options?: CallOptions): Call {
  return call('chroot', [path], { path, ...options })
}

export function umask(mask: number, options?: CallOptions): Call {
  return call('umask', [mask], options)
}

export function getcwd(to: Out, options?: CallOptions): Call {
  return call('getcwd', [to, to.size], options)
}

export function memfdCreate(name: string, flags: number, options?: CallOptions): Call {
  return call('memfd_create', [name, flags], options)
}
export const MFD = { CLOEXEC: 1, ALLOW_SEALING: 2, EXEC: 16 } as const

export function pipe2(to: Out, flags: number, options?: CallOptions): Call {
  return call('pipe2', [to, flags], options)
}

export function ioctl(fd: Fd, request: number, arg: Arg, options?: CallOptions): Call {
  return call('ioctl', [fd, request, arg], options)
}
