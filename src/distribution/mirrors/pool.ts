import type { Digest } from '../../image/digest.ts'
import type { Endpoint } from '../endpoint.ts'
import { noteMirrorFailure, sourcesOf } from './sources.ts'

/** How a source does. Times in milliseconds. */
interface State {
  /** When each of its connections began. */
  readonly begun: number[]
  /** How long one takes, as far as is known; recent ones count more. */
  pace: number | undefined
}

/**
 * The sources of one content, for all connections that bring parts of it. A mirror that fails drops out for
 * all of them; the repository itself, which comes last, never does.
 */
export class SourcePool {
  readonly #endpoint: Endpoint
  readonly #subject: Digest
  readonly #spread: boolean
  readonly #mirrors: Endpoint[]
  readonly #states: Map<Endpoint, State> = new Map()

  /** @param spread whether connections are spread over all mirrors, rather than the first used as long as it lasts. */
  constructor(endpoint: Endpoint, subject: Digest, spread: boolean) {
    this.#endpoint = endpoint
    this.#subject = subject
    this.#spread = spread
    this.#mirrors = sourcesOf(endpoint, subject).filter((source) => source !== endpoint)
  }

  /** The source of a new connection: of the mirrors, the one that will be done first by what is known. */
  take(): Endpoint {
    const [first, ...others] = this.#mirrors
    let chosen = first ?? this.#endpoint
    if (this.#spread) for (const other of others) if (this.#wait(other) < this.#wait(chosen)) chosen = other
    this.#state(chosen).begun.push(performance.now())
    return chosen
  }

  /** Gives back what {@link take} gave. */
  release(source: Endpoint): void {
    const state = this.#state(source)
    const time = performance.now() - (state.begun.shift() ?? performance.now())
    state.pace = state.pace === undefined ? time : (state.pace + time) / 2
  }

  /** Another source in place of one that has failed. */
  replace(failed: Endpoint, error: unknown): Endpoint {
    this.release(failed)
    const index = this.#mirrors.indexOf(failed)
    if (index >= 0) {
      this.#mirrors.splice(index, 1)
      noteMirrorFailure(this.#endpoint, failed, this.#subject, error)
    }
    return this.take()
  }

  /** How long another connection would take, as far as is known; only good to be compared. */
  #wait(source: Endpoint): number {
    const { begun, pace } = this.#state(source)
    const known = this.#mirrors.flatMap((mirror) => this.#state(mirror).pace ?? [])
    // Of one that has not finished anything yet: as quick as the quickest, unless it has had more time than that.
    const age = performance.now() - (begun[0] ?? performance.now())
    const guess = known.length === 0 ? 1 : Math.max(age, Math.min(...known))
    return (begun.length + 1) * (pace ?? guess)
  }

  #state(source: Endpoint): State {
    const known = this.#states.get(source) ?? { begun: [], pace: undefined }
    this.#states.set(source, known)
    return known
  }
}
