import { SingleFlight } from '../../internal/single-flight.ts'
import { coversScopes } from './scope.ts'
import type { Token } from './token-request.ts'

interface Entry {
  readonly server: string
  readonly scopes: readonly string[]
  readonly token: string
  readonly expiresAt: number
}

/** Tokens kept at a time; the oldest goes first. */
const maxEntries = 256
/** Part of a token's life that is not used, because it also has to travel; at most 10 seconds. */
const margin = (lifetime: number): number => Math.min(lifetime / 5, 10_000)

/**
 * Tokens of one registry by token server and scope. However many requests wait for a scope, one
 * token is fetched; a token for more serves requests for less.
 */
export class TokenCache {
  readonly #flights: SingleFlight<string> = new SingleFlight()
  #entries: Entry[] = []

  /**
   * A token of `server` for `scopes` (as `mergeScopes` returns them), fetched when there is none.
   * `refused` is a token that the registry has just turned down.
   */
  async get(
    server: string,
    scopes: readonly string[],
    refused: string | undefined,
    fetchToken: (signal: AbortSignal) => Promise<Token>,
    signal?: AbortSignal,
  ): Promise<string> {
    const now = performance.now()
    this.#entries = this.#entries.filter((entry) => entry.token !== refused && entry.expiresAt > now)
    const known = this.#entries.find((entry) => entry.server === server && coversScopes(entry.scopes, scopes))
    if (known !== undefined) return known.token
    const key = JSON.stringify([server, ...scopes])
    const fetched = async (inner: AbortSignal): Promise<string> => {
      const { token, lifetime } = await fetchToken(inner)
      const expiresAt = performance.now() + lifetime - margin(lifetime)
      this.#entries = [...this.#entries.slice(1 - maxEntries), { server, scopes, token, expiresAt }]
      return token
    }
    return this.#flights.run(key, fetched, signal)
  }
}
