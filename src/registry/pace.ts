/** How slow a client may be. */
export interface PaceLimits {
  /** Longest silence, in milliseconds. */
  readonly idle: number
  /** Bytes per second, over each stretch of `idle` milliseconds that was spent waiting for the client. */
  readonly rate: number
}

/** Follows how fast a client sends or takes a body. Time that is not spent waiting for it does not count. */
export class Pace {
  readonly #limits: PaceLimits
  #waited = 0
  #bytes = 0

  constructor(limits: PaceLimits) {
    this.#limits = limits
  }

  /** Waits for the client; calls `tooSlow` when it does nothing for too long. */
  async wait<T>(step: () => Promise<T>, tooSlow: () => void): Promise<T> {
    const begin = performance.now()
    const timer = setTimeout(tooSlow, this.#limits.idle)
    try {
      return await step()
    } finally {
      clearTimeout(timer)
      this.#waited += performance.now() - begin
    }
  }

  /** Notes bytes that went by. Returns false when they were too few for the time. */
  keeps(bytes: number): boolean {
    const { idle, rate } = this.#limits
    this.#bytes += bytes
    if (this.#waited < idle) return true
    const enough = this.#bytes >= (rate * this.#waited) / 1000
    this.#waited = 0
    this.#bytes = 0
    return enough
  }
}
