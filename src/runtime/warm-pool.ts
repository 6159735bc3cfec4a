import { ConflictError, InvalidArgumentError } from '../errors.ts'
import { untilAborted } from '../internal/abort.ts'

/** Something that is kept ready. */
export interface Spare {
  /** Resolves when it can't be used any more. */
  readonly ended: Promise<unknown>
  /** Removes it. Idempotent. */
  remove(): Promise<void>
}

/** Spares that are made at the same time: each takes some of the event loop's turn. */
const parallel = 4
/** Milliseconds from a run until a spare is made in the place of its: a short program has ended by then. */
const pause = 5
/** Longest wait after spares were lost, in milliseconds. */
const longestPause = 10_000

interface Waiting<T> {
  readonly resolve: (value: T) => void
  readonly reject: (error: unknown) => void
}

/** Most spares that a pool keeps. */
const largest = 1000

/** @throws InvalidArgumentError for what is no size of a pool. */
export function checkSize(size: number): void {
  if (Number.isInteger(size) && size >= 1 && size <= largest) return
  throw new InvalidArgumentError(`a pool has 1 to ${largest} containers, not ${size}`, { subject: 'size' })
}

/** Keeps `size` spares ready: makes them in the background, and again when they are taken or lost. */
export class WarmPool<T extends Spare> {
  private readonly size: number
  private readonly make: (early: boolean) => Promise<T>
  /** Whether what can be is done before it is known what a spare is for: until there was a use that this was wrong for. */
  private early = true
  private readonly idle: T[] = []
  private readonly waiting = new Set<Waiting<T>>()
  private readonly awaiting = new Set<Waiting<void> & { readonly count: number }>()
  private readonly making = new Set<Promise<void>>()
  private readonly removing = new Set<Promise<void>>()
  private filling: NodeJS.Timeout | undefined
  /** How often in a row one could not be made, or was lost before it was taken. */
  private losses = 0
  private closing: Promise<void> | undefined

  /** @param make makes a spare; with `early` one that not every use is possible for */
  constructor(size: number, make: (early: boolean) => Promise<T>) {
    this.size = size
    this.make = make
    this.fill()
  }

  /** How many are ready. */
  get ready(): number {
    return this.idle.length
  }

  /**
   * Uses a spare, or the next one that is made. Another one is made in its place afterwards: that takes time that is better
   * spent on what this one is for.
   * @param use gives undefined for a spare that what was done early has made useless; then it has removed it, and gets another
   * @throws ConflictError when the pool is closed. @throws what making one throws, and `use`.
   */
  async use<R extends object>(use: (spare: T) => Promise<R | undefined>, signal: AbortSignal | undefined): Promise<R> {
    try {
      for (;;) {
        const result = await use(await this.take(signal))
        if (result !== undefined) return result
        this.early = false
      }
    } finally {
      this.fillLater(pause)
    }
  }

  private async take(signal: AbortSignal | undefined): Promise<T> {
    signal?.throwIfAborted()
    if (this.closing !== undefined) throw closed()
    const spare = this.idle.shift()
    if (spare === undefined) return this.next(signal)
    this.losses = 0
    return spare
  }

  /** Resolves when `count` are ready; by default all. @throws what making one throws. */
  async whenReady(count: number = this.size): Promise<void> {
    if (this.closing !== undefined) throw closed()
    if (this.idle.length >= count) return
    await new Promise<void>((resolve, reject) => {
      this.awaiting.add({ count, resolve, reject })
      this.fill()
    })
  }

  /** Hands over what was made, or taken and not used. */
  private keep(spare: T): void {
    if (this.closing !== undefined) {
      this.remove(spare)
      return
    }
    const [first] = this.waiting
    if (first === undefined) {
      this.idle.push(spare)
      for (const entry of this.awaiting) {
        if (this.idle.length < entry.count) continue
        this.awaiting.delete(entry)
        entry.resolve()
      }
      return
    }
    this.waiting.delete(first)
    first.resolve(spare)
  }

  /** Removes all that are ready, and makes no more. Idempotent. */
  close(): Promise<void> {
    this.closing ??= this.end()
    return this.closing
  }

  private async next(signal: AbortSignal | undefined): Promise<T> {
    let entry: Waiting<T> | undefined
    const next = new Promise<T>((resolve, reject) => {
      entry = { resolve, reject }
      this.waiting.add(entry)
    })
    this.fill()
    try {
      return await untilAborted(next, signal)
    } catch (error) {
      this.waiting.delete(entry as Waiting<T>)
      // It may have been handed over in the same turn.
      next.then((spare) => this.keep(spare)).catch(() => {})
      throw error
    }
  }

  private fill(): void {
    if (this.closing !== undefined) return
    while (this.making.size < parallel && this.missing > 0) {
      const made = this.add().finally(() => this.making.delete(made))
      this.making.add(made)
    }
  }

  private get missing(): number {
    return this.size + this.waiting.size - this.idle.length - this.making.size
  }

  private async add(): Promise<void> {
    try {
      const spare = await this.make(this.early)
      void spare.ended.then(() => this.lose(spare))
      this.keep(spare)
    } catch (error) {
      this.losses++
      const [first] = this.waiting
      if (first !== undefined) {
        this.waiting.delete(first)
        first.reject(error)
      }
      for (const { reject } of drain(this.awaiting)) reject(error)
    }
    this.fillLater(this.losses === 0 ? 0 : this.lossPause)
  }

  /** Of a spare that ended before it was taken. */
  private lose(spare: T): void {
    const at = this.idle.indexOf(spare)
    if (at === -1) return
    this.idle.splice(at, 1)
    this.losses++
    this.remove(spare)
    this.fillLater(this.lossPause)
  }

  private get lossPause(): number {
    return Math.min(pause * 2 ** this.losses, longestPause)
  }

  private fillLater(after: number): void {
    if (this.closing !== undefined) return
    if (this.waiting.size > 0 || this.awaiting.size > 0) {
      setImmediate(() => this.fill())
      return
    }
    clearTimeout(this.filling)
    // A process that has nothing else to do does not go on for that.
    this.filling = setTimeout(() => this.fill(), after).unref()
  }

  private remove(spare: T): void {
    const removed: Promise<void> = spare
      .remove()
      .catch(() => {})
      .finally(() => this.removing.delete(removed))
    this.removing.add(removed)
  }

  private async end(): Promise<void> {
    clearTimeout(this.filling)
    for (const { reject } of [...drain(this.waiting), ...drain(this.awaiting)]) reject(closed())
    for (const spare of this.idle.splice(0)) this.remove(spare)
    await Promise.all(this.making)
    await Promise.all(this.removing)
  }
}

function drain<T>(entries: Set<T>): readonly T[] {
  const all = [...entries]
  entries.clear()
  return all
}

function closed(): ConflictError {
  return new ConflictError('pool', 'the pool is closed')
}
