/**
 * Tells when a peer has been silent for too long. It counts only the time in which something is
 * expected of the peer: while the consumer is slow, the timer rests. `progress` and `rest` cost next
 * to nothing, so they may be called for every chunk.
 */
export class StallTimer {
  readonly #timeout: number
  readonly #onStall: () => void
  #timer: NodeJS.Timeout | undefined
  #waiting = false

  /** @param timeout milliseconds. */
  constructor(timeout: number, onStall: () => void) {
    this.#timeout = timeout
    this.#onStall = onStall
  }

  /** Something has arrived, or is expected from now on: the full time is given again. */
  progress(): void {
    this.#waiting = true
    if (this.#timer === undefined) this.#timer = setTimeout(() => this.#fire(), this.#timeout)
    else this.#timer.refresh()
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
