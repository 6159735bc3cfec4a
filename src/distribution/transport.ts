import { Readable } from 'node:stream'
import { InvalidArgumentError, NetworkError, ProtocolError, TimeoutError } from '../errors.ts'
import { onAbort, untilAborted } from '../internal/abort.ts'
import { redactText, redactUrl } from '../internal/redact.ts'
import {
  createPooledFetch,
  type FetchInit,
  type FetchLike,
  type HeadersLike,
  type PooledFetch,
  type ResponseLike,
} from './fetch.ts'
import type { NetworkOptions } from './network/agents.ts'
import { redirectTarget } from './redirect.ts'
import { type OutgoingBody, type StreamBody, sendBody } from './request-body.ts'

/** One request; what HTTP needs to know of it. */
export interface HttpRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  readonly url: URL
  /** Origin of the registry that this is about: to hosts other than that one it may not lead just anywhere. */
  readonly home: URL
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** `Authorization`; sent to the origin of `url` and, when a redirect leaves that, no further. */
  readonly authorization?: string | undefined
  readonly body?: Uint8Array | StreamBody | undefined
  /** `refuse` makes every redirect an error: for requests whose body is a secret. Default `follow`. */
  readonly redirects?: 'follow' | 'refuse' | undefined
  /** Milliseconds from the last byte sent to the response's headers; default that of the transport. */
  readonly headersTimeout?: number | undefined
  readonly signal?: AbortSignal | undefined
}

/** The answer to a request. */
export interface HttpResponse {
  readonly method: string
  /** Where the response came from, after redirects. */
  readonly url: URL
  readonly status: number
  readonly headers: HeadersLike
  /** Must be read to its end, destroyed, or discarded. Nothing but its reader watches it. */
  readonly body: Readable
  /** Whether the pieces of the body are its reader's alone. */
  readonly ownPieces: boolean
  /** Milliseconds of silence after which a reader of the body should give up. */
  readonly stallTimeout: number
  /** Lets go of the body; a short one is read, so that the connection can be used again. */
  discard(): void
}

/** How a {@link Transport} sends. Times in milliseconds. */
export interface TransportOptions extends NetworkOptions {
  readonly fetch?: FetchLike | undefined
  readonly userAgent: string
  readonly headersTimeout: number
  readonly stallTimeout: number
}

/** Redirects of one request. */
const maxRedirects = 5
/** Bytes of an unwanted body that are worth reading to keep a connection. */
const drainLimit = 64 * 1024

/**
 * Sends HTTP requests: timeouts, redirects by our own rules, bodies of exact length. It knows
 * nothing of registries; what a status means is for its callers.
 */
export class Transport {
  readonly #pool: PooledFetch
  readonly #fetch: FetchLike
  readonly #options: TransportOptions

  constructor(options: TransportOptions) {
    this.#pool = createPooledFetch(options)
    this.#fetch = options.fetch ?? this.#pool.fetch
    this.#options = options
  }

  /**
   * Sends `request` and follows redirects. Every status that is no redirect is returned.
   * @throws NetworkError when there is no answer; ProtocolError for a redirect that is not followed.
   */
  async send(request: HttpRequest): Promise<HttpResponse> {
    let { url, authorization } = request
    for (let hop = 0; ; hop++) {
      const response = await this.#exchange(request, url, authorization)
      const target = redirectTarget(request, response)
      if (target === undefined) return response
      response.discard()
      if (hop === maxRedirects) throw new ProtocolError(redactUrl(request.url), `more than ${maxRedirects} redirects`)
      // Once dropped it stays dropped: another host must not choose which of our URLs gets the credential.
      if (target.origin !== url.origin) authorization = undefined
      url = target
    }
  }

  /** Closes idle connections. */
  close(): void {
    this.#pool.close()
  }

  async #exchange(request: HttpRequest, url: URL, authorization: string | undefined): Promise<HttpResponse> {
    const { signal } = request
    signal?.throwIfAborted()
    const controller = new AbortController()
    const unlink = onAbort(signal, () => controller.abort(signal?.reason))
    let timer: NodeJS.Timeout | undefined
    let settled = false
    const startTimer = (): void => {
      // An early answer may have come before the end of the body.
      if (settled) return
      const ms = request.headersTimeout ?? this.#options.headersTimeout
      timer = setTimeout(() => controller.abort(new TimeoutError('the wait for a response', ms)), ms)
    }
    const outgoing = this.#outgoing(request, url, controller, startTimer)
    if (outgoing === undefined) startTimer()
    try {
      const pending = this.#fetch(url.href, this.#init(request, url, authorization, outgoing, controller.signal))
      discardIfLate(pending, controller.signal)
      return this.#wrap(request.method, url, await untilAborted(pending, controller.signal), outgoing)
    } catch (error) {
      outgoing?.release()
      signal?.throwIfAborted()
      if (error instanceof InvalidArgumentError) throw error
      throw outgoing?.failure() ?? networkError(url, controller.signal.aborted ? controller.signal.reason : error)
    } finally {
      settled = true
      clearTimeout(timer)
      unlink()
    }
  }

  #outgoing(request: HttpRequest, url: URL, controller: AbortController, onSent: () => void): OutgoingBody | undefined {
    if (request.body === undefined || request.body instanceof Uint8Array) return undefined
    const { stallTimeout } = this.#options
    const onStall = (): void => controller.abort(new TimeoutError('the next part of the upload', stallTimeout))
    const onFailure = (error: Error): void => controller.abort(error)
    const subject = `body of ${request.method} ${redactUrl(url)}`
    return sendBody(subject, request.body, { stallTimeout, onStall, onSent, onFailure })
  }

  #init(
    request: HttpRequest,
    url: URL,
    authorization: string | undefined,
    outgoing: OutgoingBody | undefined,
    signal: AbortSignal,
  ): FetchInit {
    const bytes = request.body instanceof Uint8Array ? request.body : undefined
    const size = bytes?.byteLength ?? (request.body as StreamBody | undefined)?.size
    const body = outgoing?.payload ?? bytes
    return {
      method: request.method,
      headers: {
        'user-agent': this.#options.userAgent,
        'accept-encoding': 'identity',
        ...request.headers,
        ...(size === undefined ? {} : { 'content-length': String(size) }),
        ...(authorization === undefined ? {} : { authorization }),
      },
      ...(body === undefined ? {} : { body }),
      redirect: 'manual',
      signal,
      duplex: 'half',
      ...(isGuarded(request.home, url) ? { home: request.home.hostname } : {}),
    }
  }

  #wrap(method: string, url: URL, response: ResponseLike, outgoing: OutgoingBody | undefined): HttpResponse {
    const body = toReadable(response.body)
    const { stallTimeout } = this.#options
    // An answer may come before the whole request was sent; once it has been read, nothing more is sent.
    if (outgoing !== undefined) body.once('close', () => outgoing.release())
    return {
      method,
      url,
      status: response.status,
      headers: response.headers,
      body,
      ownPieces: response.ownPieces ?? false,
      stallTimeout,
      discard: () => drain(body, stallTimeout),
    }
  }
}

/** Whether somebody else than the user has chosen a host, who must not lead us just anywhere. */
function isGuarded(home: URL, url: URL): boolean {
  return url.hostname !== home.hostname
}

function toReadable(body: ResponseLike['body']): Readable {
  if (body === null) return Readable.from([])
  return body instanceof Readable ? body : Readable.fromWeb(body)
}

/** A fetch function that does not obey its signal may still answer; that answer must not hold a connection. */
function discardIfLate(pending: Promise<ResponseLike>, signal: AbortSignal): void {
  pending.then(
    (response) => {
      if (signal.aborted)
        toReadable(response.body)
          .on('error', () => {})
          .destroy()
    },
    () => {},
  )
}

/** Reads up to {@link drainLimit} bytes of `body` and then destroys it. */
function drain(body: Readable, timeout: number): void {
  if (body.destroyed) return
  let seen = 0
  const timer = setTimeout(() => body.destroy(), timeout)
  timer.unref()
  body.on('error', () => {})
  body.once('close', () => clearTimeout(timer))
  body.on('data', (chunk: Uint8Array) => {
    seen += chunk.byteLength
    if (seen > drainLimit) body.destroy()
  })
}

/** What went wrong between us and `url`, without the secrets that messages of the network may carry. */
export function networkError(url: URL, cause: unknown): NetworkError {
  const causes: unknown[] = []
  for (let e = cause; e !== undefined && causes.length < 5; e = e instanceof Error ? e.cause : undefined) causes.push(e)
  const deepest = causes.at(-1)
  const code: unknown = deepest instanceof Error ? Reflect.get(deepest, 'code') : undefined
  const message = deepest instanceof Error ? redactText(deepest.message) : 'the request failed'
  const prefix = typeof code === 'string' && !message.includes(code) && !code.startsWith('ERR_OCI') ? `${code}: ` : ''
  return new NetworkError(redactUrl(url), `${prefix}${message}`, { cause, hint: hintFor(url, code) })
}

/** Codes by which OpenSSL says that what answered speaks no TLS, and that nobody we trust vouches for a certificate. */
const noTls = ['EPROTO', 'ERR_SSL_WRONG_VERSION_NUMBER', 'ERR_SSL_PACKET_LENGTH_TOO_LONG']
/** How a server that speaks TLS ends a request in plain http: without a word, or with an alert. */
const noHttp = ['ECONNRESET', 'HPE_INVALID_CONSTANT']
const notTrusted = [
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
]

/** What to do about a connection that failed, where that is known. */
function hintFor({ host, protocol }: URL, code: unknown): string | undefined {
  if (typeof code !== 'string') return undefined
  if (protocol === 'http:' && noHttp.includes(code))
    return `If ${host} speaks https, pass the option \`insecure: false\`.`
  if (noTls.includes(code)) return `If it speaks plain http, name ${host} in the option \`insecure\`.`
  if (!notTrusted.includes(code)) return undefined
  return `If you trust it, put the certificate of its authority into /etc/containers/certs.d/${host}/ca.crt, or pass the option \`tls\`.`
}
