import { type FileHandle, open, stat, unlink } from 'node:fs/promises'
import type { Exclusive } from '../content/file-lock.ts'
import { delay } from '../internal/abort.ts'
import { fileError, hasCode } from '../internal/file-error.ts'
import { flock, LOCK } from '../linux/calls/files.ts'
import { perform } from '../linux/local.ts'

/** A lock of the kernel on a file. It goes with the process that has it, however that ends. */
export interface Lock {
  /** Lets go; with `remove` the file goes too. Idempotent. */
  release(options?: { readonly remove?: boolean }): Promise<void>
}

/** Longest pause between two looks at a lock that another one has, in milliseconds. */
const maxPause = 50

/**
 * Takes the lock on `path`, whose directory must exist; makes the file. Waits for whoever has it, in this
 * process or another: a call that blocks would stop the event loop or a thread of Node's pool.
 * Rejects with `signal.reason`.
 */
export async function lockFile(path: string, signal?: AbortSignal): Promise<Lock> {
  for (let pause = 1; ; pause = Math.min(pause * 2, maxPause)) {
    signal?.throwIfAborted()
    const lock = await tryLock(path)
    if (lock !== undefined) return lock
    await delay(pause * (0.5 + Math.random()), signal)
  }
}

/** Like {@link lockFile}; undefined when another one has the lock. */
export async function tryLock(path: string): Promise<Lock | undefined> {
  for (;;) {
    const file = await openLock(path)
    try {
      const taken = perform(flock(file.fd, LOCK.EXCLUSIVE | LOCK.NONBLOCKING, { tolerate: 'EAGAIN' })) === 0
      if (taken && (await isAt(file, path))) return held(file, path)
      await file.close()
      if (!taken) return undefined
      // The one who had it has removed the file: what was locked is no longer what others lock.
    } catch (error) {
      await file.close()
      throw error
    }
  }
}

async function openLock(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'a', 0o600)
  } catch (error) {
    throw fileError(error, 'taking a lock', path)
  }
}

async function isAt(file: FileHandle, path: string): Promise<boolean> {
  try {
    const [own, there] = await Promise.all([file.stat({ bigint: true }), stat(path, { bigint: true })])
    return own.ino === there.ino && own.dev === there.dev
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false
    throw error
  }
}

/** Node closes a file whose handle nobody has any more, and with it the lock would go. */
const heldFiles = new Set<FileHandle>()

function held(file: FileHandle, path: string): Lock {
  heldFiles.add(file)
  let done: Promise<void> | undefined
  return {
    release({ remove = false } = {}) {
      done ??= (async () => {
        try {
          // Before the lock is gone, so that nobody has it on a file that goes.
          if (remove) await unlink(path)
        } finally {
          heldFiles.delete(file)
          await file.close()
        }
      })()
      return done
    },
  }
}

/** Exclusion by {@link lockFile}, for the index of the layout. */
export function exclusive(path: string): Exclusive {
  return async (work, signal) => {
    const lock = await lockFile(path, signal)
    try {
      return await work()
    } finally {
      await lock.release()
    }
  }
}
