import { type Arg, type Call, struct } from '../../linux/call.ts'
import { AT_FDCWD, AT_REMOVEDIR, AT_SYMLINK_NOFOLLOW, type Fd, O, O_NOFOLLOW } from '../../linux/calls/files.ts'
import type { Timestamp } from '../tar/entry.ts'
import { type ByteString, bytesToText, isAscii } from './names.ts'

/**
 * The system calls of unpacking, on paths that are bytes. They are made by a process whose root and
 * working directory are the target, and the paths are relative and free of symlinks.
 */

/** What a call is about: a path, and its descriptor where it is open. */
export interface Place {
  /** The path as the kernel gets it. */
  readonly arg: Arg
  /** The path as errors show it. */
  readonly text: string
  /** When it is there the call is made on it, else on the path without following a symlink. */
  readonly fd?: Fd
}

/** The place of a path; the empty path is the root. */
export function placeOf(path: ByteString): Place {
  if (path === '') return { arg: '.', text: '/' }
  return isAscii(path) ? { arg: path, text: path } : { arg: bytesArg(path), text: bytesToText(path) }
}

/** Text that is the same in UTF-8 stays a string; anything else becomes bytes with a NUL behind them. */
function bytesArg(bytes: ByteString): Arg {
  return isAscii(bytes) ? bytes : Buffer.from(`${bytes}\0`, 'latin1')
}

function at(place: Place, name: string, args: readonly Arg[]): Call {
  return { kind: 'call', name, args, path: place.text }
}

/** The result is a descriptor to write to. */
export function createFile(place: Place, mode: number): Call {
  return at(place, 'openat', [AT_FDCWD, place.arg, O.WRONLY | O.CREAT | O.EXCL | O_NOFOLLOW | O.CLOEXEC, mode])
}

/** `content` stands for `length` bytes. */
export function writeTo(place: Place, fd: Fd, content: Arg, length: number): Call {
  return at(place, 'write', [fd, content, length])
}

/** Moves the position of `fd` forward, over a hole. */
export function skipHole(place: Place, fd: Fd, length: number): Call {
  const SEEK_CUR = 1
  return at(place, 'lseek', [fd, length, SEEK_CUR])
}

export function setLength(place: Place, fd: Fd, length: number): Call {
  return at(place, 'ftruncate', [fd, length])
}

export function makeDirectory(place: Place, mode: number): Call {
  return at(place, 'mkdirat', [AT_FDCWD, place.arg, mode])
}

export function makeNode(place: Place, mode: number, device: number): Call {
  return at(place, 'mknodat', [AT_FDCWD, place.arg, mode, device])
}

export function makeSymlink(place: Place, target: ByteString): Call {
  return at(place, 'symlinkat', [bytesArg(target), AT_FDCWD, place.arg])
}

/** Where `target` is a symlink, the link is a second name of the symlink. */
export function makeHardLink(place: Place, target: Place): Call {
  return at(place, 'linkat', [AT_FDCWD, target.arg, AT_FDCWD, place.arg, 0])
}

export function removeName(place: Place, isDirectory: boolean): Call {
  return at(place, 'unlinkat', [AT_FDCWD, place.arg, isDirectory ? AT_REMOVEDIR : 0])
}

export function setOwner(place: Place, uid: number, gid: number): Call {
  if (place.fd !== undefined) return at(place, 'fchown', [place.fd, uid, gid])
  return at(place, 'fchownat', [AT_FDCWD, place.arg, uid, gid, AT_SYMLINK_NOFOLLOW])
}

/** By path it follows a symlink: not for those. */
export function setMode(place: Place, mode: number): Call {
  if (place.fd !== undefined) return at(place, 'fchmod', [place.fd, mode])
  return at(place, 'fchmodat', [AT_FDCWD, place.arg, mode])
}

/** Failures are told by the result, for `xattrFault` to judge. */
export function setXattr(place: Place, name: string, value: Uint8Array): Call {
  const [call, target] = place.fd === undefined ? ['lsetxattr', place.arg] : ['fsetxattr', place.fd]
  return { ...at(place, call, [target, name, value, value.length, 0]), tolerate: 'any', step: `set ${name}` }
}

/** Sets access and modification time. */
export function setTimes(place: Place, { seconds, nanoseconds }: Timestamp): Call {
  const times = struct([seconds, nanoseconds, seconds, nanoseconds])
  if (place.fd !== undefined) return at(place, 'utimensat', [place.fd, 0, times, 0])
  return at(place, 'utimensat', [AT_FDCWD, place.arg, times, AT_SYMLINK_NOFOLLOW])
}
