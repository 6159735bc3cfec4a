import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { readlink } from 'node:fs/promises'
import { SyscallError } from '../errors.ts'
import { fileError, hasCode } from '../internal/file-error.ts'
import { O, openat2, RESOLVE } from '../linux/calls/files.ts'
import { performWalk } from '../linux/walk.ts'
import { LowerDirectories } from '../store/lower-directories.ts'

/** Larger account files are cut: an image must not fill memory (CVE-2026-47262). Bytes. */
const limit = 1 << 20

/** As many symlinks as the kernel follows (path_resolution(7)). */
const mostLinks = 40

/** What is for want of something of this process, and not of the image. */
const lacking: readonly string[] = ['EMFILE', 'ENFILE', 'ENOMEM']

/** The account files of an image. */
export interface Accounts {
  readonly passwd?: Uint8Array
  readonly group?: Uint8Array
}

/** Accounts of images that were run lately, by their layers, which never change. */
const recent = new Map<string, Accounts>()
const mostRecent = 16
/** Bytes of the account files that are kept of one. */
const largestRecent = 64 << 10

/**
 * Reads /etc/passwd and /etc/group of an image out of unpacked layers of the store, topmost first, as they are when these
 * are mounted upon each other. @throws SyscallError when one is gone.
 */
export async function accountsOfImage(layers: readonly string[]): Promise<Accounts> {
  const key = layers.join('\0')
  const known = recent.get(key)
  if (known !== undefined) return known
  const tree = new LowerDirectories(async () => layers)
  const [passwd, group] = await Promise.all([inLayers(tree, 'etc/passwd'), inLayers(tree, 'etc/group')])
  const accounts = accountsOf(passwd, group)
  if ((passwd?.length ?? 0) + (group?.length ?? 0) > largestRecent) return accounts
  if (recent.size >= mostRecent) recent.delete(recent.keys().next().value as string)
  recent.set(key, accounts)
  return accounts
}

/** Reads the account files of a container that runs. @param root its root, which it can change meanwhile */
export function accountsInRoot(root: string): Accounts {
  const fd = openRoot(root)
  try {
    return accountsOf(inRoot(fd, 'etc/passwd'), inRoot(fd, 'etc/group'))
  } finally {
    closeSync(fd)
  }
}

function openRoot(root: string): number {
  try {
    return openSync(root, constants.O_RDONLY | constants.O_DIRECTORY)
  } catch (error) {
    throw fileError(error, 'looking for the user in the container', root)
  }
}

function accountsOf(passwd: Uint8Array | undefined, group: Uint8Array | undefined): Accounts {
  return { ...(passwd === undefined ? {} : { passwd }), ...(group === undefined ? {} : { group }) }
}

async function inLayers(tree: LowerDirectories, path: string): Promise<Uint8Array | undefined> {
  try {
    const file = await resolve(tree, path)
    // To open a device starts it, and a fifo lets its writer go on.
    return file?.found.isFile() === true ? readStart(file.path) : undefined
  } catch (error) {
    if (hasCode(error, 'ENOENT') || lacking.some((code) => hasCode(error, code))) {
      const { path } = error as NodeJS.ErrnoException
      throw fileError(error, 'looking for the user in the image', String(path))
    }
    // What can't be reached (a name that is too long) names nobody.
    if (error instanceof Error && 'syscall' in error) return undefined
    throw error
  }
}

/** Where a path of all layers leads to, by symlinks of any of them. Strings are of bytes: latin1. */
async function resolve(tree: LowerDirectories, path: string) {
  const left = path.split('/')
  const at: string[] = []
  let place: Awaited<ReturnType<LowerDirectories['find']>>
  let links = 0
  for (let name = left.shift(); name !== undefined; name = left.shift()) {
    if (name === '' || name === '.') continue
    if (name === '..') {
      at.pop()
      continue
    }
    place = await tree.find(Buffer.from([...at, name].join('/'), 'latin1'))
    if (place === undefined) return undefined
    if (!place.found.isSymbolicLink()) {
      at.push(name)
      continue
    }
    if (++links > mostLinks) return undefined
    const target = await readlink(place.path, 'latin1')
    if (target.startsWith('/')) at.length = 0
    left.unshift(...target.split('/'))
  }
  return place
}

function inRoot(root: number, path: string): Uint8Array | undefined {
  try {
    // Looked at before it is opened, as of layers.
    const resolve = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS
    // Often it is not there, and an error takes many times as long as a look.
    const why = { step: `read /${path} of the container`, tolerate: 'ENOENT' }
    const node = performWalk(openat2(root, path, { flags: O.PATH, resolve }, why))
    if (node < 0) return undefined
    try {
      return fstatSync(node).isFile() ? readStart(`/proc/self/fd/${node}`) : undefined
    } finally {
      closeSync(node)
    }
  } catch (error) {
    if (!(error instanceof SyscallError) || lacking.includes(error.errnoName)) throw error
    // What can't be opened (a symlink loop) names nobody.
    return undefined
  }
}

function readStart(path: string | Buffer): Uint8Array {
  const fd = openSync(path, constants.O_RDONLY)
  try {
    const bytes = Buffer.alloc(Math.min(fstatSync(fd).size, limit))
    let size = 0
    while (size < bytes.length) {
      const got = readSync(fd, bytes, size, bytes.length - size, size)
      if (got === 0) break
      size += got
    }
    return bytes.subarray(0, size)
  } finally {
    closeSync(fd)
  }
}
