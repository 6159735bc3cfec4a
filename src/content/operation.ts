/** Reports that nobody has asked for are merged down to this many. */
const backlog = 256

/** Tells how far some work is. */
export interface Report<Progress> {
  (progress: Progress): void
  /** Whether anybody listens at the moment. */
  wanted(): boolean
}

/**
 * Work that is under way from the moment it is made: a promise of its result that can also be iterated
 * for progress. Not iterating costs nothing; a slow reader misses reports, never the result.
 */
export class Operation<Result, Progress> implements Promise<Result>, AsyncIterable<Progress> {
  readonly [Symbol.toStringTag]: string = 'Operation'
  private readonly result: Promise<Result>
  private readonly readers = new Set<Reader<Progress>>()

  /** @internal */
  constructor(work: (report: Report<Progress>) => Promise<Result>) {
    const report = Object.assign((progress: Progress) => this.report(progress), { wanted: () => this.readers.size > 0 })
    // In the next turn, so that whoever iterates at once misses nothing.
    this.result = Promise.resolve().then(() => work(report))
    const finish = (): void => {
      for (const reader of this.readers) reader.finish()
    }
    // Whoever only iterates gets the failure from there; it must not count as unhandled as well.
    this.result.then(finish, finish)
  }

  // biome-ignore lint/suspicious/noThenProperty: to be awaited is what it is for
  then<A = Result, B = never>(
    fulfilled?: ((value: Result) => A | PromiseLike<A>) | null,
    rejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.result.then(fulfilled, rejected)
  }

  /** As of a promise. */
  catch<B = never>(rejected?: ((reason: unknown) => B | PromiseLike<B>) | null): Promise<Result | B> {
    return this.result.catch(rejected)
  }

  /** As of a promise. */
  finally(settled?: (() => void) | null): Promise<Result> {
    return this.result.finally(settled)
  }

  /** Reports from now on, until the work is done. Throws what the work failed with. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Progress, void, undefined> {
    const reader = new Reader<Progress>()
    this.readers.add(reader)
    this.result.then(
      () => reader.finish(),
      () => reader.finish(),
    )
    try {
      for (let progress = await reader.next(); progress !== undefined; progress = await reader.next()) yield progress
      await this.result
    } finally {
      this.readers.delete(reader)
    }
  }

  private report(progress: Progress): void {
    for (const reader of this.readers) reader.add(progress)
  }
}

class Reader<Progress> {
  private readonly waiting: Progress[] = []
  private finished = false
  private wake: (() => void) | undefined

  add(progress: Progress): void {
    if (this.waiting.length >= backlog) this.waiting.shift()
    this.waiting.push(progress)
    this.wake?.()
  }

  finish(): void {
    this.finished = true
    this.wake?.()
  }

  async next(): Promise<Progress | undefined> {
    while (this.waiting.length === 0 && !this.finished) {
      await new Promise<void>((resolve) => {
        this.wake = resolve
      })
    }
    return this.waiting.shift()
  }
}
