import { posix } from 'node:path'
import type { Call, CallOptions } from '../linux/call.ts'
import {
  close,
  type Fd,
  mkdirat,
  mknodat,
  O,
  O_DIRECTORY,
  O_NOFOLLOW,
  openat2,
  RESOLVE,
  S_IFREG,
} from '../linux/calls/files.ts'

/**
 * Paths inside the container's root, before it is the root. None is used by name twice: the parent is
 * opened with the kernel confining the walk to the root (openat2, RESOLVE_IN_ROOT), and what follows
 * works on the descriptor. A symlink, a magic link of /proc, or another process that swaps either
 * can't lead out (CVE-2021-30465, CVE-2024-45310).
 */
const confined = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS

/** Opens `path` inside the root as a handle. */
export function openInRoot(root: Fd, path: string, options: CallOptions): Call {
  return openat2(root, path, { flags: O.PATH, resolve: confined }, options)
}

/** Opens `path` inside the root as a handle of what is there, also of a symlink. */
export function openNodeInRoot(root: number, path: string, options: CallOptions): Call {
  return openat2(root, path, { flags: O.PATH | O_NOFOLLOW, resolve: confined }, options)
}

/** Opens a directory that no symlink may stand for: /proc, /sys and /dev (CVE-2019-19921). */
export function openRealDirectory(root: number, path: string, options: CallOptions): Call {
  const resolve = confined | RESOLVE.NO_SYMLINKS
  return openat2(root, path, { flags: O.PATH | O_DIRECTORY, resolve }, options)
}

/** Makes the directory `path` inside the root with the ones above it, where they are missing. */
export function makeDirectoryInRoot(root: number, path: string, options: CallOptions): readonly Call[] {
  const names = components(path)
  return names.flatMap((name, index) => {
    if (index === 0) return [mkdirat(root, name, 0o755, { ...options, tolerate: 'EEXIST' })]
    const parent = openInRoot(root, names.slice(0, index).join('/'), options)
    return [parent, mkdirat(parent, name, 0o755, { ...options, tolerate: 'EEXIST' }), close(parent)]
  })
}

/** Makes an empty file at `path` inside the root with the directories above it, where it is missing. */
export function makeFileInRoot(root: number, path: string, options: CallOptions): readonly Call[] {
  const names = components(path)
  const name = names.at(-1) ?? '.'
  const above = names.slice(0, -1).join('/')
  const made = makeDirectoryInRoot(root, above, options)
  if (above === '') return [mknodat(root, name, S_IFREG | 0o644, 0, { ...options, tolerate: 'EEXIST' })]
  const parent = openInRoot(root, above, options)
  const file = mknodat(parent, name, S_IFREG | 0o644, 0, { ...options, tolerate: 'EEXIST' })
  return [...made, parent, file, close(parent)]
}

/** Names on the way down an absolute path; `..` can't climb above the root. */
function components(path: string): readonly string[] {
  return posix
    .normalize(`/${path}`)
    .split('/')
    .filter((name) => name !== '')
}
