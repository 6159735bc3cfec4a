import type { AccessGrant, Authenticator, AuthProblem } from './access.ts'
import { quoted } from './basic.ts'
import type { VerifyToken } from './jwt.ts'

/** Where clients get tokens, and how these are checked. */
export interface BearerAuthOptions {
  /** URL of the token server. */
  readonly realm: string
  /** This registry's name at the token server. */
  readonly service: string
  /** Checks a token: `jwtVerifier({ … })`, or your own function. */
  readonly verify: VerifyToken
}

/**
 * Bearer authentication with the tokens of another server (distribution's token specification).
 * What a token does not grant is refused; `authorize` is asked on top of it.
 * @throws InvalidArgumentError
 */
export function bearerAuth(options: BearerAuthOptions): Authenticator {
  const { verify } = options
  const start = `Bearer realm=${quoted(options.realm, 'realm')},service=${quoted(options.service, 'service')}`
  return {
    authenticate: (request) => authenticateBearer(request, verify),
    challenge: (_, grants, problem) => `${start}${challengeEnd(grants, problem)}`,
  }
}

/** Who sends a request, by its bearer token. */
export async function authenticateBearer(
  request: Request,
  verify: VerifyToken,
): ReturnType<Authenticator['authenticate']> {
  const header = request.headers.get('authorization')
  if (header === null) return undefined
  const token = /^Bearer +([^\s]+)$/i.exec(header.trim())?.[1]
  return (token === undefined ? undefined : await verify(token)) ?? 'invalid'
}

/** The part of a challenge that says what is needed, and what was wrong. Names of repositories need no escaping. */
export function challengeEnd(grants: readonly AccessGrant[], problem: AuthProblem): string {
  const scopes = grants.map(({ type, name, actions }) => `${type}:${name}:${actions.join(',')}`)
  const scope = scopes.length === 0 ? '' : `,scope="${scopes.join(' ')}"`
  if (problem === 'missing') return scope
  return `${scope},error="${problem === 'invalid' ? 'invalid_token' : 'insufficient_scope'}"`
}
