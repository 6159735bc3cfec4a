import { createHash, timingSafeEqual } from 'node:crypto'
import { InvalidArgumentError } from '../../errors.ts'
import type { Authenticator, VerifyPassword } from './access.ts'

/** Who may log in. */
export interface BasicAuthOptions {
  /** Passwords by user name, or a function that checks them: `htpasswd(file)`, or your own. */
  readonly users: Readonly<Record<string, string>> | VerifyPassword
  /** What the credentials are for, as told to clients; default `registry`. */
  readonly realm?: string | undefined
}

/**
 * Basic authentication (RFC 7617): a name and password with each request. Use it with TLS.
 * @throws InvalidArgumentError
 */
export function basicAuth(options: BasicAuthOptions): Authenticator {
  const verify = passwordVerifier(options.users)
  const challenge = `Basic realm=${quoted(options.realm ?? 'registry', 'realm')}, charset="UTF-8"`
  return {
    async authenticate(request) {
      const header = request.headers.get('authorization')
      if (header === null) return undefined
      const credentials = parseBasic(header)
      if (credentials === undefined) return 'invalid'
      const { user, password } = credentials
      return (await verify(user, password)) ? { user } : 'invalid'
    },
    challenge: () => challenge,
  }
}

/** A name and password out of an `Authorization` header; undefined when it is no Basic one. */
export function parseBasic(header: string): { readonly user: string; readonly password: string } | undefined {
  const encoded = /^Basic +([A-Za-z0-9+/_=-]{1,8192})$/i.exec(header.trim())?.[1]
  if (encoded === undefined) return undefined
  const text = Buffer.from(encoded, 'base64').toString('utf8')
  const colon = text.indexOf(':')
  if (colon <= 0) return undefined
  return { user: text.slice(0, colon), password: text.slice(colon + 1) }
}

/** A function that checks passwords, out of either form of the option. @throws InvalidArgumentError */
export function passwordVerifier(users: Readonly<Record<string, string>> | VerifyPassword): VerifyPassword {
  if (typeof users === 'function') return users
  const hashes = new Map(Object.entries(users).map(([user, password]) => [user, hash(password)]))
  for (const user of hashes.keys()) {
    if (user === '' || user.includes(':')) {
      throw new InvalidArgumentError('a user name must not be empty or have a colon', { subject: 'users' })
    }
  }
  const nobody = hash('')
  return (user, password) => {
    const known = hashes.get(user)
    // Compared also for a user who does not exist: the time must not tell.
    return timingSafeEqual(known ?? nobody, hash(password)) && known !== undefined
  }
}

function hash(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

/** A quoted string of an HTTP header (RFC 9110, section 5.6.4). @throws InvalidArgumentError naming the option. */
export function quoted(text: string, option: string): string {
  if (/[^\x20-\x7e]/.test(text)) {
    throw new InvalidArgumentError(`${option} must have printable ASCII characters only`, { subject: option })
  }
  return `"${text.replace(/["\\]/g, '\\$&')}"`
}
