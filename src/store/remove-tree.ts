import { chmod, lstat, readdir, rm } from 'node:fs/promises'
import { fileError, hasCode } from '../internal/file-error.ts'

/**
 * Removes a directory with all that is in it, without following links; it need not exist. An ordinary
 * user's layers may have directories that nobody may write to: they are opened first.
 */
export async function removeTree(path: string): Promise<void> {
  const options = { recursive: true, force: true, maxRetries: 3 }
  try {
    await rm(path, options)
  } catch (error) {
    if (!hasCode(error, 'EACCES') && !hasCode(error, 'EPERM')) throw fileError(error, 'removing', path)
    try {
      await openUp(path)
      await rm(path, options)
    } catch (cause) {
      throw fileError(cause, 'removing', path)
    }
  }
}

async function openUp(path: string): Promise<void> {
  const pending = [Buffer.from(path)]
  for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
    try {
      if (!(await lstat(at)).isDirectory()) continue
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
}
