import { untilAborted } from './abort.ts'

interface Flight<T> {
  readonly result: Promise<T>
  readonly controller: AbortController
  waiters: number
}

/**
 * Runs one piece of work per key however many callers ask for it at the same time; all of them get
 * its result. A caller that aborts stops waiting; the work itself is aborted when its last caller
 * has gone. Nothing is remembered once the work has settled.
 */
export class SingleFlight<T> {
  readonly #flights: Map<string, Flight<T>> = new Map()

  async run(key: string, work: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted()
    const flight = this.#flights.get(key) ?? this.#start(key, work)
    flight.waiters++
    try {
      return await untilAborted(flight.result, signal)
    } finally {
      flight.waiters--
      if (flight.waiters === 0) {
        this.#forget(key, flight)
        flight.controller.abort(signal?.reason)
      }
    }
  }

  #start(key: string, work: (signal: AbortSignal) => Promise<T>): Flight<T> {
    const controller = new AbortController()
    const flight: Flight<T> = { result: work(controller.signal), controller, waiters: 0 }
    this.#flights.set(key, flight)
    const settled = (): void => this.#forget(key, flight)
    flight.result.then(settled, settled)
    return flight
  }

  #forget(key: string, flight: Flight<T>): void {
    if (this.#flights.get(key) === flight) this.#flights.delete(key)
  }
}
