/** Lets the changes to one repository happen one after another, and those to several at the same time. */
export class RepositoryLocks {
  readonly #tails = new Map<string, Promise<void>>()

  /** Runs `work` when everything that was asked for the repository before is over. */
  async run<T>(repository: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(repository)
    let release = (): void => {}
    const tail = new Promise<void>((resolve) => {
      release = resolve
    })
    this.#tails.set(repository, tail)
    try {
      await before
      return await work()
    } finally {
      release()
      if (this.#tails.get(repository) === tail) this.#tails.delete(repository)
    }
  }
}
