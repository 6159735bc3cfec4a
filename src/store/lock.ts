import { closeSync, fstatSync, openSync, statSync, unlinkSync } from 'node:fs'
import type { Exclusive } from '../content/file-lock.ts'
import { delay } from '../internal/abort.ts'
import { fileError } from '../internal/file-error.ts'
import { flock, LOCK } from '../linux/calls/files.ts'
import { perform } from '../linux/local.ts'

/** A lock of the kernel on a file. It goes with the process that has it, however that ends. */
export interface Lock {
  /** Lets go; with `remove` the file goes too. Idempotent. */
  release(options?: { readonly remove?: boolean }): void
}

/** How a lock is taken. */
export interface LockOptions {
  /** Whether others may have it at the same time, if they want it shared too. Default false. */
  readonly shared?: boolean
}

/** Longest pause between two looks at a lock that another one has, in milliseconds. */
const maxPause = 50

/**
 * Takes the lock on `path`, whose directory must exist; makes the file. Waits for whoever has it, in this
 * process or another: a call that blocks would stop the event loop or a thread of Node's pool.
 * Rejects with `signal.reason`.
 */
export async function lockFile(path: string, signal?: AbortSignal, options?: LockOptions): Promise<Lock> {
  for (let pause = 1; ; pause = Math.min(pause * 2, maxPause)) {
    signal?.throwIfAborted()
    const lock = tryLock(path, options)
    if (lock !== undefined) return lock
    await delay(pause * (0.5 + Math.random()), signal)
  }
}

/**
 * Like {@link lockFile}; undefined when another one has the lock. Synchronous: the few calls take some
 * microseconds each, where a turn of Node's pool of threads takes a hundred.
 */
export function tryLock(path: string, { shared = false }: LockOptions = {}): Lock | undefined {
  const operation = (shared ? LOCK.SHARED : LOCK.EXCLUSIVE) | LOCK.NONBLOCKING
  for (;;) {
    const fd = openLock(path)
    try {
      const taken = perform(flock(fd, operation, { tolerate: 'EAGAIN' })) === 0
      if (taken && isAt(fd, path)) return held(fd, path)
      closeSync(fd)
      if (!taken) return undefined
      // The one who had it has removed the file: what was locked is no longer what others lock.
    } catch (error) {
      closeSync(fd)
      throw error
    }
  }
}

function openLock(path: string): number {
  try {
    return openSync(path, 'a', 0o600)
  } catch (error) {
    throw fileError(error, 'taking a lock', path)
  }
}

function isAt(fd: number, path: string): boolean {
  const own = fstatSync(fd, { bigint: true })
  const there = statSync(path, { bigint: true, throwIfNoEntry: false })
  return own.ino === there?.ino && own.dev === there.dev
}

function held(fd: number, path: string): Lock {
  let isHeld = true
  return {
    release({ remove = false } = {}) {
      if (!isHeld) return
      isHeld = false
      try {
        // Before the lock is gone, so that nobody has it on a file that goes.
        if (remove) unlinkSync(path)
      } finally {
        closeSync(fd)
      }
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
      lock.release()
    }
  }
}
