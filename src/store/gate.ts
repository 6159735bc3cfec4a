import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { UnsupportedError } from '../errors.ts'
import { delay } from '../internal/abort.ts'
import { type Lock, lockFile, tryLock } from './lock.ts'

/**
 * Stands between the collection of garbage and everything that decides what is none, in all processes. What
 * makes content needed passes it shared, and briefly: adding to a lease, naming content, making a container's
 * layer. A collection has it alone while it looks at what is needed and moves the rest away.
 */
export class Gate {
  readonly #path: string
  /** Locked by whoever wants the gate alone: others hold it shared so often that it would never find it free. */
  readonly #turn: string

  constructor(locks: string) {
    this.#path = join(locks, 'gc.lock')
    this.#turn = join(locks, 'gc-turn.lock')
  }

  /** Whatever `work` makes needed is not collected. Where there is no collection, without locks, it just runs. */
  async shared<T>(work: () => T | Promise<T>, signal?: AbortSignal): Promise<T> {
    if (process.platform !== 'linux') return work()
    if (existsSync(this.#turn)) await this.#letPass(signal)
    // In most cases at once, without a turn of the event loop.
    const lock = tryLock(this.#path, { shared: true }) ?? (await lockFile(this.#path, signal, { shared: true }))
    return releasing(lock, work)
  }

  /** Nobody else passes before `work` has ended; it must not pass the gate itself. @throws UnsupportedError */
  async alone<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    if (process.platform !== 'linux') {
      throw new UnsupportedError('collecting garbage', `this is ${process.platform}, and it takes locks of Linux`)
    }
    const turn = await lockFile(this.#turn, signal)
    try {
      return await releasing(await lockFile(this.#path, signal), work)
    } finally {
      turn.release({ remove: true })
    }
  }

  /** Waits for those who want it alone; removes what a dead one has left. */
  async #letPass(signal: AbortSignal | undefined): Promise<void> {
    while (existsSync(this.#turn)) {
      const turn = tryLock(this.#turn)
      if (turn !== undefined) return turn.release({ remove: true })
      await delay(1 + Math.random() * longestPause, signal)
    }
  }
}

/** Between two looks at whether it is one's turn, in milliseconds. */
const longestPause = 5

async function releasing<T>(lock: Lock, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work()
  } finally {
    lock.release()
  }
}
