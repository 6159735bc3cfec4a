import { join } from 'node:path'
import { UnsupportedError } from '../errors.ts'
import { type Lock, lockFile, tryLock } from './lock.ts'

/**
 * Stands between the collection of garbage and everything that decides what is none, in all processes. What
 * makes content needed passes it shared, and briefly: adding to a lease, naming content, making a container's
 * layer. A collection has it alone while it looks at what is needed and moves the rest away.
 */
export class Gate {
  readonly #path: string

  constructor(locks: string) {
    this.#path = join(locks, 'gc.lock')
  }

  /** Whatever `work` makes needed is not collected. Where there is no collection, without locks, it just runs. */
  async shared<T>(work: () => T | Promise<T>, signal?: AbortSignal): Promise<T> {
    if (process.platform !== 'linux') return work()
    // In most cases at once, without a turn of the event loop.
    const lock = tryLock(this.#path, { shared: true }) ?? (await lockFile(this.#path, signal, { shared: true }))
    return releasing(lock, work)
  }

  /** Nobody else passes before `work` has ended; it must not pass the gate itself. @throws UnsupportedError */
  async alone<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    if (process.platform !== 'linux') {
      throw new UnsupportedError('collecting garbage', `this is ${process.platform}, and it takes locks of Linux`)
    }
    return releasing(await lockFile(this.#path, signal), work)
  }
}

async function releasing<T>(lock: Lock, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work()
  } finally {
    lock.release()
  }
}
