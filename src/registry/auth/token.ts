import { randomBytes, randomUUID } from 'node:crypto'
import { InvalidArgumentError } from '../../errors.ts'
import { type Duration, toMilliseconds } from '../../internal/units.ts'
import { readBody } from '../body.ts'
import { Fault, jsonResponse } from '../fault.ts'
import { isRepository } from '../names.ts'
import type { AccessGrant, Authenticator, Authorize, RegistryAction, VerifyPassword } from './access.ts'
import { parseBasic, passwordVerifier, quoted } from './basic.ts'
import { authenticateBearer, challengeEnd } from './bearer.ts'
import { jwtVerifier, signToken } from './jwt.ts'

/** Who gets tokens, and what they are like. */
export interface TokenAuthOptions {
  /** Passwords by user name, or a function that checks them: `htpasswd(file)`, or your own. */
  readonly users: Readonly<Record<string, string>> | VerifyPassword
  /** This registry's name in tokens; default `oci-ts`. */
  readonly service?: string | undefined
  /** Where on this server tokens are given out; default `/token`. */
  readonly path?: string | undefined
  /**
   * URL of that path, as clients reach it; default the one of the server that the client asked, by its
   * Host header. Needed behind a proxy that ends TLS.
   */
  readonly realm?: string | undefined
  /** How long a token is good for; default 5 minutes, at least one: some clients take less for one. */
  readonly lifetime?: Duration | undefined
  /** Key that signs the tokens, at least 32 bytes; default a random one, so that tokens end with the process. */
  readonly secret?: string | Uint8Array | undefined
}

/** Scopes that one token may have. */
const maxScopes = 100

/** Bytes of a token request's form. */
const maxForm = 64 * 1024

const issuer = 'oci-ts'

/**
 * Bearer authentication with a token server of its own (distribution's token specification, and its
 * OAuth2 form with the `password` grant). Who asks without a password gets a token too, for what
 * `authorize` gives to everybody. Use it with TLS.
 * @throws InvalidArgumentError
 */
export function tokenAuth(options: TokenAuthOptions): Authenticator {
  const { service = 'oci-ts', path = '/token', realm } = options
  const lifetime = Math.floor(toMilliseconds(options.lifetime ?? '5m', 'lifetime') / 1000)
  if (lifetime < 60) throw new InvalidArgumentError('lifetime must be at least one minute', { subject: 'lifetime' })
  if (!/^\/[\w./-]*$/.test(path) || path.startsWith('/v2')) {
    throw new InvalidArgumentError('path must begin with a slash, and not with /v2', { subject: 'path' })
  }
  const secret = Buffer.from(options.secret ?? randomBytes(32))
  const end = `,service=${quoted(service, 'service')}`
  const fixed = realm === undefined ? undefined : quoted(realm, 'realm')
  const verify = jwtVerifier({ secret, issuer, audience: service, leeway: 0 })
  const issue: Issue = { verify: passwordVerifier(options.users), service, lifetime, secret }
  return {
    authenticate: (request) => authenticateBearer(request, verify),
    challenge: (request, grants, problem) =>
      `Bearer realm=${fixed ?? ownRealm(request, path)}${end}${challengeEnd(grants, problem)}`,
    respond: (request, authorize) =>
      new URL(request.url).pathname === path ? answer(issue, request, authorize) : undefined,
  }
}

interface Issue {
  readonly verify: VerifyPassword
  readonly service: string
  /** Seconds. */
  readonly lifetime: number
  readonly secret: Buffer
}

/** The Host is the client's own: it tells nobody else where to send a password. */
function ownRealm(request: Request, path: string): string {
  const { protocol, host } = new URL(request.url)
  const asked = request.headers.get('host') ?? ''
  return `"${protocol}//${/^[\w.[\]:-]{1,255}$/.test(asked) ? asked : host}${path}"`
}

interface TokenRequest {
  readonly credentials: { readonly user: string; readonly password: string } | undefined
  readonly parameters: URLSearchParams
}

async function answer(issue: Issue, request: Request, authorize: Authorize): Promise<Response> {
  const { credentials, parameters } = await readRequest(request)
  if (credentials !== undefined && !(await issue.verify(credentials.user, credentials.password))) throw refused()
  const service = parameters.get('service')
  if (service !== null && service !== '' && service !== issue.service) {
    throw new Fault('UNSUPPORTED', 'tokens for another service are not given here', { status: 400 })
  }
  const scopes = parameters
    .getAll('scope')
    .flatMap((scope) => scope.split(' '))
    .filter((scope) => scope !== '')
  if (scopes.length > maxScopes) throw new Fault('UNSUPPORTED', `at most ${maxScopes} scopes`, { status: 400 })
  const user = credentials?.user
  const access: AccessGrant[] = []
  for (const scope of new Set(scopes)) {
    const grant = await grantOf(scope, user, authorize)
    if (grant !== undefined) access.push(grant)
  }
  const now = Math.floor(Date.now() / 1000)
  const { lifetime } = issue
  const times = { iat: now, nbf: now - 10, exp: now + lifetime }
  const claims = { iss: issuer, aud: issue.service, sub: user ?? '', jti: randomUUID(), ...times, access }
  const token = signToken(claims, issue.secret)
  const scope = access.map(({ type, name, actions }) => `${type}:${name}:${actions.join(',')}`).join(' ')
  const life = { expires_in: lifetime, issued_at: new Date(now * 1000).toISOString() }
  return jsonResponse({ token, access_token: token, token_type: 'Bearer', scope, ...life }, 200, {
    'Cache-Control': 'no-store',
  })
}

async function readRequest(request: Request): Promise<TokenRequest> {
  const header = request.headers.get('authorization')
  if (request.method === 'GET') {
    const credentials = header === null ? undefined : parseBasic(header)
    if (header !== null && credentials === undefined) throw refused()
    return { credentials, parameters: new URL(request.url).searchParams }
  }
  if (request.method !== 'POST') {
    throw new Fault('UNSUPPORTED', 'tokens are asked for by GET or POST', { headers: { Allow: 'GET, POST' } })
  }
  const tooLong = (): Fault => new Fault('SIZE_INVALID', 'the form is too long', { status: 413 })
  const form = await readBody(request, maxForm, tooLong)
  const parameters = new URLSearchParams(Buffer.from(form).toString('utf8'))
  const [user, password] = [parameters.get('username'), parameters.get('password')]
  if (parameters.get('grant_type') !== 'password' || user === null || password === null) {
    throw new Fault('UNSUPPORTED', 'only the password grant is possible here', { status: 400 })
  }
  return { credentials: { user, password }, parameters }
}

function refused(): Fault {
  return new Fault('UNAUTHORIZED', 'wrong name or password', { headers: { 'WWW-Authenticate': 'Basic realm="token"' } })
}

/** What of a scope the user gets; undefined for nothing. */
async function grantOf(
  scope: string,
  user: string | undefined,
  authorize: Authorize,
): Promise<AccessGrant | undefined> {
  if (scope === 'registry:catalog:*') {
    const allowed = await authorize({ action: 'catalog', repository: undefined, user })
    return allowed ? { type: 'registry', name: 'catalog', actions: ['*'] } : undefined
  }
  const [, name = '', list = ''] = /^repository(?:\([a-z0-9]+\))?:([^:]+):([a-z,*]+)$/.exec(scope) ?? []
  if (!isRepository(name)) return undefined
  const asked = new Set(list.split(','))
  const actions: RegistryAction[] = []
  for (const action of ['pull', 'push', 'delete'] as const) {
    if (!asked.has(action) && !asked.has('*')) continue
    if (await authorize({ action, repository: name, user })) actions.push(action)
  }
  return actions.length === 0 ? undefined : { type: 'repository', name, actions }
}
