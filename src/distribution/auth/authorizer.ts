import { CredentialError, InvalidArgumentError, RegistryError } from '../../errors.ts'
import type { RegistryListener } from '../events.ts'
import type { RetryPolicy } from '../retry.ts'
import type { Transport } from '../transport.ts'
import { type Challenge, parseChallenges } from './challenge.ts'
import type { Credential, CredentialProvider } from './credential.ts'
import { realmUrl } from './realm.ts'
import { isPullOnly, mergeScopes } from './scope.ts'
import { TokenCache } from './token-cache.ts'
import { basic, requestToken, type Token } from './token-request.ts'

/** What an {@link Authorizer} works with. */
export interface AuthorizerOptions {
  /** Registry as references name it. */
  readonly registry: string
  /** Base URL that is spoken to. */
  readonly origin: URL
  readonly credentials: CredentialProvider
  readonly transport: Transport
  readonly retry: RetryPolicy
  /** Name of this client for token servers. */
  readonly clientId: string
  readonly notify: RegistryListener
}

/** What a request is about, for the choice of credential and token. */
export interface AuthorizationTarget {
  readonly repository: string
  /** Scope that the request needs; what a challenge asks for is added. */
  readonly scope: string
  readonly signal?: AbortSignal | undefined
}

/**
 * Finds the `Authorization` header for requests to one origin. It waits to be asked: the first
 * request goes out bare, its challenge tells how the registry wants to be spoken to, and from then
 * on every request carries its token from the start.
 */
export class Authorizer {
  readonly #options: AuthorizerOptions
  readonly #tokens: TokenCache = new TokenCache()
  /** Basic headers by repository; undefined where the one there is has been refused. */
  readonly #passwords: Map<string, string | undefined> = new Map()
  #challenge: Challenge | undefined
  /** Where a token server hands out a new refresh token each time: what it replaced, and the latest. */
  #rotation: { readonly original: string; readonly current: string } | undefined

  constructor(options: AuthorizerOptions) {
    this.#options = options
  }

  /** Header for a request, by what the registry has asked for before; undefined before it has. */
  async authorization(target: AuthorizationTarget): Promise<string | undefined> {
    return this.#challenge === undefined ? undefined : this.#answer(this.#challenge, target, undefined, false)
  }

  /**
   * Header that answers the challenges of a 401; undefined when nothing better can be sent than
   * `refused`, the header the request carried.
   */
  async answer(
    header: string | null,
    target: AuthorizationTarget,
    refused: string | undefined,
  ): Promise<string | undefined> {
    const challenges = parseChallenges(header)
    for (const scheme of ['bearer', 'basic']) {
      const challenge = challenges.find((c) => c.scheme === scheme)
      if (challenge === undefined) continue
      const answer = await this.#answer(challenge, target, refused, true)
      if (answer === undefined) continue
      this.#challenge = challenge
      return answer === refused ? undefined : answer
    }
    return undefined
  }

  /**
   * Whether to try a request without the password that was refused, because what is public can be read although that is
   * out of date. If so, the repository is asked without it from now on, until it asks for one.
   */
  forgoPassword({ repository, scope }: AuthorizationTarget, refused: string | undefined): boolean {
    if (refused === undefined || this.#passwords.get(repository) !== refused) return false
    if (!isPullOnly(mergeScopes([scope]))) return false
    this.#passwords.set(repository, undefined)
    return true
  }

  /** @param fresh whether the challenge is about this very request, so that its scope counts. */
  async #answer(
    challenge: Challenge,
    target: AuthorizationTarget,
    refused: string | undefined,
    fresh: boolean,
  ): Promise<string | undefined> {
    if (challenge.scheme === 'basic') return this.#basic(target, fresh)
    const realm = challenge.parameters.get('realm')
    if (realm === undefined) return undefined
    const scopes = mergeScopes([target.scope, ...(fresh ? [challenge.parameters.get('scope') ?? ''] : [])])
    return `Bearer ${await this.#token(realm, challenge.parameters.get('service'), scopes, target, refused)}`
  }

  async #basic(target: AuthorizationTarget, fresh: boolean): Promise<string | undefined> {
    if (!fresh && this.#passwords.has(target.repository)) return this.#passwords.get(target.repository)
    const credential = await this.#credential(target)
    if (credential?.kind !== 'password') return undefined
    const header = basic(credential)
    this.#passwords.set(target.repository, header)
    return header
  }

  async #token(
    realm: string,
    service: string | undefined,
    scopes: readonly string[],
    target: AuthorizationTarget,
    refused: string | undefined,
  ): Promise<string> {
    const url = realmUrl(this.#options.origin, realm)
    const server = JSON.stringify([url.href, service ?? ''])
    const refusedToken = refused?.startsWith('Bearer ') ? refused.slice('Bearer '.length) : undefined
    const fetch = (signal: AbortSignal): Promise<Token> => this.#fetchToken(url, service, scopes, { ...target, signal })
    return this.#tokens.get(server, scopes, refusedToken, fetch, target.signal)
  }

  /**
   * A token for the stored credential. What is public can be read although that is out of date: then
   * the token server is asked once more without it.
   */
  async #fetchToken(
    realm: URL,
    service: string | undefined,
    scopes: readonly string[],
    target: AuthorizationTarget,
  ): Promise<Token> {
    const { transport, retry, clientId, registry, notify, origin: home } = this.#options
    const ask = (credential: Credential | undefined): Promise<Token> =>
      requestToken(transport, retry, { home, realm, service, scopes, credential, clientId }, target.signal)
    try {
      const credential = await this.#credential(target)
      if (credential?.kind === 'bearer') return { token: credential.token, lifetime: 60_000, refreshToken: undefined }
      const token = await ask(credential)
      if (credential?.kind === 'identity') this.#rotate(credential.token, token.refreshToken)
      return token
    } catch (error) {
      const refused = error instanceof RegistryError && (error.status === 401 || error.status === 403)
      if (!(refused || error instanceof CredentialError) || !isPullOnly(scopes)) throw error
      const token = await ask(undefined).catch(() => {
        throw error
      })
      notify({ kind: 'credential-refused', registry, error })
      return token
    }
  }

  async #credential({ repository, signal }: AuthorizationTarget): Promise<Credential | undefined> {
    const { registry, origin, credentials } = this.#options
    const credential = await credentials({ registry, origin: origin.origin, repository, signal })
    if (credential?.kind === 'password' && credential.username.includes(':')) {
      throw new InvalidArgumentError(`the user name for ${registry} contains a colon`, { subject: registry })
    }
    if (credential?.kind !== 'identity' || credential.token !== this.#rotation?.original) return credential
    return { kind: 'identity', token: this.#rotation.current }
  }

  #rotate(used: string, next: string | undefined): void {
    if (next === undefined || next === used) return
    const original = this.#rotation?.current === used ? this.#rotation.original : used
    this.#rotation = { original, current: next }
  }
}
