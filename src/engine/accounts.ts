import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { join, posix } from 'node:path'
import { SyscallError } from '../errors.ts'
import { fileError } from '../internal/file-error.ts'
import { opaqueMark, whiteoutPrefix } from '../layer/apply/names.ts'
import { O, openat2, RESOLVE } from '../linux/calls/files.ts'
import { performWalk } from '../linux/walk.ts'
import { hasOpaqueAttribute } from '../store/lower-directories.ts'

/** Larger account files are cut: an image must not fill memory (CVE-2026-47262). Bytes. */
const limit = 1 << 20

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

/** As {@link readAccounts}, of unpacked layers of the store. */
export function accountsOfImage(layers: readonly string[]): Accounts {
  const key = layers.join('\0')
  const known = recent.get(key)
  if (known !== undefined) return known
  const accounts = readAccounts(layers)
  const { passwd, group } = accounts
  if ((passwd?.length ?? 0) + (group?.length ?? 0) > largestRecent) return accounts
  if (recent.size >= mostRecent) recent.delete(recent.keys().next().value as string)
  recent.set(key, accounts)
  return accounts
}

/** Reads /etc/passwd and /etc/group out of the layers of an image, topmost first. @throws SyscallError when one is gone. */
export function readAccounts(layers: readonly string[]): Accounts {
  const passwd = readFromLayers(layers, 'etc/passwd')
  const group = readFromLayers(layers, 'etc/group')
  return { ...(passwd === undefined ? {} : { passwd }), ...(group === undefined ? {} : { group }) }
}

function readFromLayers(layers: readonly string[], path: string): Uint8Array | undefined {
  for (const layer of layers) {
    const content = readInLayer(layer, path)
    // A file of a higher layer hides what is below, also when it is a whiteout.
    if (content !== 'missing') return content
  }
  return undefined
}

function openLayer(layer: string): number {
  try {
    return openSync(layer, constants.O_RDONLY | constants.O_DIRECTORY)
  } catch (error) {
    throw fileError(error, 'looking for the user in the image', layer)
  }
}

function readInLayer(layer: string, path: string): Uint8Array | 'missing' | undefined {
  const root = openLayer(layer)
  try {
    const resolve = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS
    // Often none of what is looked for is there, and an error takes many times as long as a look.
    const why = { step: `read /${path} of the image`, tolerate: 'ENOENT' }
    // Looked at before it is opened: to open a device starts it, whoever put it there, and a fifo lets its writer go on.
    const node = performWalk(openat2(root, path, { flags: O.PATH, resolve }, why))
    if (node < 0) {
      const isOpaque = hasOpaqueAttribute(Buffer.from(join(layer, posix.dirname(path))))
      return isOpaque || isHidden(root, path) ? undefined : 'missing'
    }
    try {
      return fstatSync(node).isFile() ? readStart(node) : undefined
    } finally {
      closeSync(node)
    }
  } catch (error) {
    if (!(error instanceof SyscallError) || lacking.includes(error.errnoName)) throw error
    // What can't be opened (a symlink loop, a whiteout device) names nobody.
    return undefined
  } finally {
    closeSync(root)
  }
}

/** Whether files of the layer say that lower layers have it no more, where no device can. */
function isHidden(root: number, path: string): boolean {
  const { dir, base } = posix.parse(path)
  const marks = [`${whiteoutPrefix}${dir}`, `${dir}/${whiteoutPrefix}${base}`, `${dir}/${opaqueMark}`]
  return marks.some((mark) => {
    const resolve = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS
    try {
      const node = performWalk(openat2(root, mark, { flags: O.PATH, resolve }, { tolerate: 'ENOENT' }))
      if (node >= 0) closeSync(node)
      return node >= 0
    } catch (error) {
      if (error instanceof SyscallError) return false
      throw error
    }
  })
}

function readStart(node: number): Uint8Array {
  const fd = openSync(`/proc/self/fd/${node}`, constants.O_RDONLY)
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
