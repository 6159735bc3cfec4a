/** Lets work on one key happen one piece after another, and that on different keys at the same time. */
export class KeyedQueue {
  readonly #tails: Map<string, Promise<unknown>> = new Map()

  /** Runs `work` when everything asked for `key` before is over, however it ended. */
  run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve()
    const result = before.then(work, work)
    this.#tails.set(key, result)
    const forget = (): void => {
      if (this.#tails.get(key) === result) this.#tails.delete(key)
    }
    result.then(forget, forget)
    return result
  }
}
