import { mkdir, readdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { fileError, hasCode } from '../internal/file-error.ts'
import { type Lock, lockFile, tryLock } from './lock.ts'
import { removeTree } from './remove-tree.ts'

const lockSuffix = '.lock'

/**
 * A directory for something that is being made or removed, which one process owns by a lock beside it.
 * What a process leaves behind when it dies, the next one removes.
 */
export class WorkDirectory {
  readonly path: string
  readonly #lock: Lock

  private constructor(path: string, lock: Lock) {
    this.path = path
    this.#lock = lock
  }

  /**
   * Makes the directory `name` in `folder`, empty, for this caller alone; waits for another owner of that
   * name, and removes what a dead one has left.
   */
  static async claim(folder: string, name: string, signal?: AbortSignal): Promise<WorkDirectory> {
    const work = new WorkDirectory(join(folder, name), await lockFile(join(folder, `${name}${lockSuffix}`), signal))
    try {
      await removeTree(work.path)
      await mkdir(work.path, { mode: 0o700 })
      return work
    } catch (error) {
      await work.release()
      throw fileError(error, 'making a temporary directory', work.path)
    }
  }

  /** Moves something into it, on the same file system; undefined when it is not there. */
  async take(path: string): Promise<string | undefined> {
    const to = join(this.path, 'taken')
    try {
      await rename(path, to)
      return to
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined
      throw fileError(error, 'moving', path)
    }
  }

  /** Removes it, unless it has been renamed, and lets go of its name. */
  async release(): Promise<void> {
    try {
      await removeTree(this.path)
    } finally {
      this.#lock.release({ remove: true })
    }
  }
}

/** Removes what dead processes have left in `folder`; what has an owner stays. */
export async function reclaim(folder: string): Promise<void> {
  const names = await readdir(folder)
  for (const name of new Set(
    names.map((each) => (each.endsWith(lockSuffix) ? each.slice(0, -lockSuffix.length) : each)),
  )) {
    const lock = tryLock(join(folder, `${name}${lockSuffix}`))
    if (lock === undefined) continue
    try {
      await removeTree(join(folder, name))
    } finally {
      lock.release({ remove: true })
    }
  }
}
