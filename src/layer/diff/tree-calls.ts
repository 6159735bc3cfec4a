import type { Arg, Call, Out } from '../../linux/call.ts'
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_SYMLINK_NOFOLLOW,
  close,
  O,
  O_DIRECTORY,
  O_NOFOLLOW,
  RESOLVE,
} from '../../linux/calls/files.ts'
import { type Place, placeOf } from '../apply/calls.ts'
import type { ByteString } from '../apply/names.ts'
import { STATX_BASIC_STATS } from './tree-node.ts'

/**
 * The system calls of reading a tree, on paths that are bytes. They are made by a process whose root is
 * the tree. A directory is entered without following any symlink, and what is in it is then named by its last
 * component: whoever changes the tree meanwhile can't lead the reader elsewhere.
 */

/** Descriptor that the process has of the root of the tree. */
export const rootDescriptor = 100

function at(place: Place, name: string, args: readonly Arg[], tolerate?: string): Call {
  return { kind: 'call', name, args, path: place.text, ...(tolerate === undefined ? {} : { tolerate }) }
}

/** Opens `path` of the tree, following no symlink. */
function openPath(path: ByteString, flags: number, tolerate?: string): Call {
  const how = Buffer.alloc(24)
  how.writeBigUInt64LE(BigInt(flags | O.CLOEXEC | O_NOFOLLOW), 0)
  how.writeBigUInt64LE(BigInt(RESOLVE.NO_SYMLINKS | RESOLVE.BENEATH), 16)
  const place = placeOf(path)
  return at(place, 'openat2', [rootDescriptor, place.arg, how, how.length], tolerate)
}

/** Makes a directory the working directory. The first call is the one that may fail because it has gone away. */
export function enterDirectory(path: ByteString): readonly [opened: Call, ...rest: Call[]] {
  const opened = openPath(path, O.RDONLY | O_DIRECTORY)
  return [opened, at(placeOf(path), 'fchdir', [opened]), close(opened)]
}

/** Opens the directory, to list it. */
export function openDirectory(path: ByteString): Call {
  return openPath(path, O.RDONLY | O_DIRECTORY)
}

/** Opens a file. A fifo that has taken its place does not make it wait. */
export function openFile(path: ByteString): Call {
  return openPath(path, O.RDONLY | O.NONBLOCK | O.NOCTTY, 'any')
}

/** Opens whatever is at a path, symlinks too, only to see that it is there. */
export function openAnything(path: ByteString): Call {
  return openPath(path, O.PATH, 'any')
}

/** What the kernel says of `name` in the working directory. */
export function statOf(place: Place, to: Out): Call {
  return at(place, 'statx', [AT_FDCWD, place.arg, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, to], 'any')
}

export function statOfFile(place: Place, fd: Call, to: Out): Call {
  return at(place, 'statx', [fd, '', AT_EMPTY_PATH, STATX_BASIC_STATS, to], 'any')
}

export function targetOf(place: Place, to: Out): Call {
  return at(place, 'readlinkat', [AT_FDCWD, place.arg, to, to.size], 'any')
}

/** Names of the attributes, each with a NUL behind it. */
export function xattrNames(place: Place, to: Out): Call {
  return at(place, 'llistxattr', [place.arg, to, to.size], 'any')
}

export function xattrValue(place: Place, name: string, to: Out): Call {
  return at(place, 'lgetxattr', [place.arg, name, to, to.size], 'any')
}

export function readFrom(place: Place, fd: number | Call, to: Out): Call {
  return at(place, 'read', [fd, to, to.size], 'any')
}

/** The place of `base` in the working directory; errors show it with its directory. */
export function placeIn(directory: ByteString, base: ByteString): Place {
  return { ...placeOf(base), text: placeOf(directory === '' ? base : `${directory}/${base}`).text }
}
