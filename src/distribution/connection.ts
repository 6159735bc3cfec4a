import { NetworkError, NotFoundError, type RegistryError, TimeoutError } from '../errors.ts'
import type { Authorizer } from './auth/authorizer.ts'
import { HeaderReader, type RegistryListener } from './events.ts'
import { responseError } from './response.ts'
import {
  type Attempt,
  isTransientError,
  isTransientStatus,
  parseRetryAfter,
  type RetryPolicy,
  retrying,
} from './retry.ts'
import type { HttpRequest, HttpResponse, Transport } from './transport.ts'

/** A request to a registry. */
export interface RegistryRequest extends Omit<HttpRequest, 'authorization' | 'redirects' | 'home'> {
  /** What the request is about, for messages: `127.0.0.1:5000/app:1`. */
  readonly subject: string
  readonly repository: string
  /** Scope of token authentication that it needs. */
  readonly scope: string
  /** Statuses that the caller deals with; every other one is thrown. */
  readonly accept: readonly number[]
  /** Told of what went wrong each time that it is sent again. */
  readonly onRetry?: ((reason: unknown) => void) | undefined
  /** Whether sending it twice may do harm. A body that is a stream is never sent twice. Default false. */
  readonly once?: boolean | undefined
  /** Whether another registry is asked when this fails: then it is repeated once only, and not after silence. Default false. */
  readonly hasAlternative?: boolean | undefined
}

/** What a {@link Connection} works with. */
export interface ConnectionOptions {
  readonly origin: URL
  readonly transport: Transport
  readonly authorizer: Authorizer
  readonly retry: RetryPolicy
  /** Registry as references name it. */
  readonly registry: string
  readonly notify: RegistryListener
}

/** Abilities of a registry that have been seen. */
export interface RegistryFeatures {
  /** The referrers API. */
  referrers: boolean
}

/** Answers to a 401 within one request: a token that had expired, then one with the scope it was told. */
const maxAuthRounds = 2

/** Requests to one registry, with authentication and repetition. */
export class Connection {
  readonly origin: URL
  readonly retry: RetryPolicy
  readonly registry: string
  readonly notify: RegistryListener
  /** Until when nothing is asked here that can be had elsewhere; a time of `performance.now()`. */
  restsUntil = 0
  /** What the registry has turned out to offer. */
  readonly features: RegistryFeatures = { referrers: false }
  readonly #transport: Transport
  readonly #authorizer: Authorizer
  readonly #headers: HeaderReader

  constructor({ origin, transport, authorizer, retry, registry, notify }: ConnectionOptions) {
    this.registry = registry
    this.notify = notify
    this.#headers = new HeaderReader(registry, notify)
    this.origin = origin
    this.retry = retry
    this.#transport = transport
    this.#authorizer = authorizer
  }

  /**
   * Sends `request` until it is answered with a status of `accept`, or it makes no sense to go on.
   * @throws NotFoundError for 404, RegistryError for any other status, NetworkError without an answer.
   */
  request(request: RegistryRequest): Promise<HttpResponse> {
    const onRetry = (delay: number, error: unknown): void => {
      this.notifyRetry(request.subject, delay, error)
      request.onRetry?.(error)
    }
    const attempts = Math.min(this.retry.attempts, request.hasAlternative === true ? 2 : Number.POSITIVE_INFINITY)
    return retrying({ ...this.retry, attempts }, request.signal, () => this.#attempt(request), onRetry)
  }

  /** Tells that something about `subject` is tried again in `delay` milliseconds, after `error`. */
  notifyRetry(subject: string, delay: number, error: unknown): void {
    this.notify({ kind: 'retry', registry: this.registry, subject, delay, error })
  }

  async #attempt(request: RegistryRequest): Promise<Attempt<HttpResponse>> {
    const repeatable = request.once !== true && !isStream(request)
    let response: HttpResponse
    try {
      response = await this.#authorized(request)
    } catch (error) {
      const isSilence = error instanceof NetworkError && error.cause instanceof TimeoutError
      const mayPass = repeatable && !(isSilence && request.hasAlternative === true)
      if (mayPass && error instanceof NetworkError && isTransientError(error)) return { error }
      throw error
    }
    if (request.accept.includes(response.status)) return { value: response }
    const retryAfter = parseRetryAfter(response.headers.get('retry-after'))
    const hint = this.#hint(response, retryAfter)
    const error = await responseError(response, request.subject, { hint, retryAfter, signal: request.signal })
    if (repeatable && isTransientStatus(response.status)) return { error, retryAfter }
    throw response.status === 404 ? notFound(request.subject, error) : error
  }

  async #authorized(request: RegistryRequest): Promise<HttpResponse> {
    const ours = request.url.origin === this.origin.origin
    const first = ours ? await this.#authorizer.authorization(request) : undefined
    let authorization = first
    let refusal: RegistryError | undefined
    for (let round = 0; ; round++) {
      const response = await this.#transport.send({ ...request, home: this.origin, authorization })
      // A 401 of a host that a redirect or a Location led to is none of our registry's.
      if (!ours || response.url.origin !== this.origin.origin) return response
      this.#headers.read(response.headers)
      if (response.status !== 401) {
        if (refusal !== undefined) this.notify({ kind: 'credential-refused', registry: this.registry, error: refusal })
        return response
      }
      if (round === maxAuthRounds || isStream(request)) return response
      const answer = await this.#answer(request, response, authorization)
      if (answer === undefined && round === 0 && this.#authorizer.forgoPassword(request, authorization)) {
        refusal = await responseError(response, request.subject, { signal: request.signal })
      } else if (answer === undefined || (refusal !== undefined && answer === first)) return response
      response.discard()
      authorization = answer
    }
  }

  async #answer(
    request: RegistryRequest,
    response: HttpResponse,
    refused: string | undefined,
  ): Promise<string | undefined> {
    try {
      return await this.#authorizer.answer(response.headers.get('www-authenticate'), request, refused)
    } catch (error) {
      response.discard()
      throw error
    }
  }

  #hint(response: HttpResponse, retryAfter: number | undefined): string | undefined {
    if (response.status === 401 && response.url.origin === this.origin.origin) {
      return 'The repository may not exist, or needs (other) credentials: pass the option `credentials`, or log in with `docker login`.'
    }
    if (retryAfter === undefined) return undefined
    return `The registry asks to wait ${Math.ceil(retryAfter / 1000)} seconds.`
  }
}

function notFound(subject: string, cause: RegistryError): NotFoundError {
  const [first] = cause.errors
  const detail = first === undefined ? '' : ` (${first.code}: ${first.message})`
  return new NotFoundError(subject, `${subject} not found${detail}`, { cause })
}

function isStream({ body }: RegistryRequest): boolean {
  return body !== undefined && !(body instanceof Uint8Array)
}
