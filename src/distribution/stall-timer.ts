/** Bytes that must arrive in the time that is given. */
const leastProgress = 4096

/**
 * Tells when a peer has been silent for too long. It counts only the time in which something is
 * expected of the peer: while the consumer is slow, the timer rests. A byte now and then is silence, too:
 * the full time is given again for {@link leastProgress} bytes only. `progress` and `rest` cost next to
 * nothing, so they may be called for every chunk.
 */
export class StallTimer {
  readonly #timeout: number
  readonly #onStall: () => void
  #timer: NodeJS.Timeout | undefined
  #waiting = false
  /** Bytes since the full time was last given. */
  #seen = 0

  /** @param timeout milliseconds. */
  constructor(timeout: number, onStall: () => void) {
    this.#timeout = timeout
    this.#onStall = onStall
  }

  /** `bytes` have arrived, or by default, something is expected from now on and the full time is given. */
  progress(bytes: number = leastProgress): void {
    this.#waiting = true
    this.#seen += bytes
    if (this.#timer === undefined) this.#timer = setTimeout(() => this.#fire(), this.#timeout)
    else if (this.#seen >= leastProgress) this.#timer.refresh()
    if (this.#seen >= leastProgress) this.#seen = 0
  }

  /** Nothing is expected until the next `progress`. */
  rest(): void {
    this.#waiting = false
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#waiting = false
  }

  #fire(): void {
    this.#timer = undefined
    if (this.#waiting) this.#onStall()
  }
}
