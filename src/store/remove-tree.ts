import { existsSync, lstatSync, readdirSync, rmdirSync, unlinkSync } from 'node:fs'
import { chmod, lstat, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileError, hasCode } from '../internal/file-error.ts'
import { emptyMapped } from './remove-mapped.ts'

/**
 * Removes a directory with all that is in it, without following links; it need not exist. An ordinary
 * user's layers may have directories that nobody may write to: they are opened first. What has an owner of /etc/subuid is removed
 * in a user namespace.
 */
export async function removeTree(path: string): Promise<void> {
  if (isRemovedAtOnce(path)) return
  const options = { recursive: true, force: true, maxRetries: 3 }
  try {
    await rm(path, options)
  } catch (error) {
    if (!hasCode(error, 'EACCES') && !hasCode(error, 'EPERM')) throw fileError(error, 'removing', path)
    try {
      if (!(await openUp(path))) await emptyMapped(path)
      await rm(path, options)
    } catch (cause) {
      throw fileError(cause, 'removing', path)
    }
  }
}

/** Entries of a tree that is removed at once: a layer that a container has hardly written to has some six. */
const few = 16

/** Removes a small tree: a thread that is woken for each entry takes longer. @returns false when there is something left. */
function isRemovedAtOnce(path: string): boolean {
  try {
    return removeUpTo(few, path) >= 0
  } catch (error) {
    // Whatever else is wrong, the thorough way says so, or has an answer to it.
    return hasCode(error, 'ENOENT') && !existsSync(path)
  }
}

/** Bytes of a directory that is listed as a whole. It may have hundreds of entries then, on some file systems thousands. */
const smallDirectory = 4096

/** @returns how many more entries there might have been; below 0 when there are too many, and some are left. */
function removeUpTo(count: number, path: string): number {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) return count
  if (!found.isDirectory() || found.size > smallDirectory) return -1
  let left = count
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (--left < 0) return left
    const inside = join(path, entry.name)
    if (!entry.isDirectory()) unlinkSync(inside)
    else left = removeUpTo(left, inside)
    if (left < 0) return left
  }
  rmdirSync(path)
  return left
}

/** Makes directories writable; false when there is one that belongs to somebody else. */
async function openUp(path: string): Promise<boolean> {
  const pending = [Buffer.from(path)]
  for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
    try {
      const found = await lstat(at)
      if (!found.isDirectory()) continue
      if (found.uid !== process.geteuid?.()) return false
      await chmod(at, 0o700)
      for (const entry of await readdir(at, { encoding: 'buffer', withFileTypes: true })) {
        // Dirent has no type for names that are bytes in every Node; lstat above sorts them out.
        pending.push(Buffer.concat([at, Buffer.from('/'), Buffer.from(entry.name)]))
      }
    } catch (error) {
      // What the failed removal had begun goes on after its failure.
      if (!hasCode(error, 'ENOENT')) throw error
    }
  }
  return true
}
