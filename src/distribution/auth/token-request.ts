import { NetworkError, ProtocolError } from '../../errors.ts'
import { redactUrl } from '../../internal/redact.ts'
import { readBody, responseError } from '../response.ts'
import { isTransientError, isTransientStatus, parseRetryAfter, type RetryPolicy, retrying } from '../retry.ts'
import type { HttpRequest, HttpResponse, Transport } from '../transport.ts'
import type { Credential } from './credential.ts'

/** A request for a token. */
export interface TokenRequest {
  /** Origin of the registry. */
  readonly home: URL
  /** Checked by `realmUrl`. */
  readonly realm: URL
  readonly service: string | undefined
  readonly scopes: readonly string[]
  readonly credential: Credential | undefined
  readonly clientId: string
}

/** A token that a server has given out. */
export interface Token {
  readonly token: string
  /** Milliseconds it is good for, from when the answer came. */
  readonly lifetime: number
  /** A refresh token to be used from now on. */
  readonly refreshToken: string | undefined
}

/** Bytes of a token server's answer. */
const maxAnswer = 128 * 1024
/** The specification's default lifetime, and the longest we count on. */
const defaultLifetime = 60_000
const maxLifetime = 24 * 3_600_000

/**
 * Asks a token server for a token: by POST and the refresh-token grant of OAuth 2 with an identity
 * token, else by GET, with Basic when there is a password.
 * @throws RegistryError when the server refuses; ProtocolError when its answer holds no token.
 */
export async function requestToken(
  transport: Transport,
  policy: RetryPolicy,
  request: TokenRequest,
  signal?: AbortSignal,
): Promise<Token> {
  const http = {
    ...(request.credential?.kind === 'identity' ? byPost(request, request.credential) : byGet(request)),
    signal,
  }
  const subject = `token for ${request.scopes.join(' ') || 'no scope'}`
  const response = await retrying(policy, signal, async () => {
    let answer: HttpResponse
    try {
      answer = await transport.send(http)
    } catch (error) {
      if (error instanceof NetworkError && isTransientError(error)) return { error }
      throw error
    }
    if (answer.status === 200) return { value: answer }
    const retryAfter = parseRetryAfter(answer.headers.get('retry-after'))
    const error = await responseError(answer, subject, {
      signal,
      retryAfter,
      hint: hintFor(answer.status, request.credential),
    })
    if (isTransientStatus(answer.status)) return { error, retryAfter }
    throw error
  })
  const body = await readBody(response, maxAnswer, `answer of the token server ${redactUrl(request.realm)}`, signal)
  return parseToken(request.realm, body)
}

function byGet({ home, realm, service, scopes, credential, clientId }: TokenRequest): HttpRequest {
  const url = new URL(realm)
  if (service !== undefined) url.searchParams.set('service', service)
  for (const scope of scopes) url.searchParams.append('scope', scope)
  if (credential?.kind !== 'password') return { method: 'GET', url, home, redirects: 'refuse' }
  url.searchParams.set('account', credential.username)
  url.searchParams.set('client_id', clientId)
  return { method: 'GET', url, home, authorization: basic(credential), redirects: 'refuse' }
}

function byPost(
  { home, realm, service, scopes, clientId }: TokenRequest,
  credential: Credential & { kind: 'identity' },
): HttpRequest {
  const form = new URLSearchParams({
    grant_type: 'refresh_token',
    client_id: clientId,
    refresh_token: credential.token,
  })
  if (service !== undefined) form.set('service', service)
  if (scopes.length > 0) form.set('scope', scopes.join(' '))
  return {
    method: 'POST',
    url: realm,
    home,
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: new TextEncoder().encode(form.toString()),
    redirects: 'refuse',
  }
}

/** Value of `Authorization` for the Basic scheme (RFC 7617). */
export function basic({ username, password }: Credential & { kind: 'password' }): string {
  return `Basic ${Buffer.from(`${username}:${password}`, 'utf8').toString('base64')}`
}

function hintFor(status: number, credential: Credential | undefined): string | undefined {
  if (status !== 401 && status !== 403) return undefined
  return credential === undefined
    ? 'The token server gives no anonymous access. Pass the option `credentials`, or log in with `docker login`.'
    : 'The token server refused the stored credential. Log in again, or remove it for anonymous access.'
}

function parseToken(realm: URL, body: Uint8Array): Token {
  let answer: unknown
  try {
    answer = JSON.parse(new TextDecoder().decode(body))
  } catch {
    answer = undefined
  }
  const field = (name: string): unknown =>
    typeof answer === 'object' && answer !== null ? Reflect.get(answer, name) : undefined
  const token = field('token') || field('access_token')
  // Anything else would not fit into a header, and Node's error would quote it.
  if (typeof token !== 'string' || !/^[\x21-\x7e]{1,65536}$/.test(token)) {
    throw new ProtocolError(redactUrl(realm), 'the answer of the token server holds no usable token')
  }
  const seconds = field('expires_in')
  const lifetime = typeof seconds === 'number' && seconds > 0 ? Math.min(seconds * 1000, maxLifetime) : defaultLifetime
  const refresh = field('refresh_token')
  return { token, lifetime, refreshToken: typeof refresh === 'string' && refresh !== '' ? refresh : undefined }
}
