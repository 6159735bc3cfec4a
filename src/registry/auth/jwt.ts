import {
  createHmac,
  createPublicKey,
  type KeyObject,
  type SignKeyObjectInput,
  timingSafeEqual,
  verify,
} from 'node:crypto'
import { InvalidArgumentError } from '../../errors.ts'
import type { AccessGrant, Identity } from './access.ts'

/** Checks a bearer token; undefined for one that is no good. */
export type VerifyToken = (token: string) => Identity | undefined | Promise<Identity | undefined>

/** A key of a JSON Web Key Set (RFC 7517). */
export interface JsonWebKey {
  readonly kty: string
  readonly kid?: string
  readonly alg?: string
  readonly use?: string
  readonly [member: string]: unknown
}

/** A JSON Web Key Set (RFC 7517). */
export interface JsonWebKeySet {
  readonly keys: readonly JsonWebKey[]
}

/** What a JSON Web Token must be. Give `secret` or `keys`. */
export interface JwtVerifierOptions {
  /** The `iss` that tokens must have; default any. */
  readonly issuer?: string | undefined
  /** The `aud` that tokens must have, the service's name; default any. */
  readonly audience?: string | undefined
  /** Key of tokens signed by HMAC (HS256, HS384, HS512); at least 32 bytes. */
  readonly secret?: string | Uint8Array | undefined
  /** Public keys of tokens that are signed otherwise, or how to get them: called when a token names a key not known yet. */
  readonly keys?: JsonWebKeySet | (() => Promise<JsonWebKeySet>) | undefined
  /** Seconds by which clocks may differ; default 60. */
  readonly leeway?: number | undefined
}

/** Longest token that is looked at, in characters. */
const maxTokenLength = 32 * 1024

/** How long a token's unknown key keeps us from asking for the keys again, in milliseconds. */
const keysPause = 10_000

interface Algorithm {
  readonly hash: string
  readonly kty: readonly string[]
  readonly options?: Pick<SignKeyObjectInput, 'dsaEncoding' | 'padding' | 'saltLength'>
}

/** RSA_PKCS1_PSS_PADDING; salt as long as the hash (RSA_PSS_SALTLEN_DIGEST). */
const pss = { padding: 6, saltLength: -1 } as const
const ieee = { dsaEncoding: 'ieee-p1363' } as const

/** RFC 7518, section 3.1, and RFC 8037. `none` is not among them. */
const algorithms: Readonly<Record<string, Algorithm>> = {
  HS256: { hash: 'sha256', kty: ['oct'] },
  HS384: { hash: 'sha384', kty: ['oct'] },
  HS512: { hash: 'sha512', kty: ['oct'] },
  RS256: { hash: 'sha256', kty: ['RSA'] },
  RS384: { hash: 'sha384', kty: ['RSA'] },
  RS512: { hash: 'sha512', kty: ['RSA'] },
  PS256: { hash: 'sha256', kty: ['RSA'], options: pss },
  PS384: { hash: 'sha384', kty: ['RSA'], options: pss },
  PS512: { hash: 'sha512', kty: ['RSA'], options: pss },
  ES256: { hash: 'sha256', kty: ['EC'], options: ieee },
  ES384: { hash: 'sha384', kty: ['EC'], options: ieee },
  ES512: { hash: 'sha512', kty: ['EC'], options: ieee },
  EdDSA: { hash: '', kty: ['OKP'] },
}

/**
 * Checks JSON Web Tokens (RFC 7519): signature, `exp` (which must be there), `nbf`, `iss`, `aud`. `sub`
 * becomes the user, `access` what the token allows: none, when it is missing.
 * @throws InvalidArgumentError
 */
export function jwtVerifier(options: JwtVerifierOptions): VerifyToken {
  const { secret, keys, leeway = 60 } = options
  if ((secret === undefined) === (keys === undefined)) {
    throw new InvalidArgumentError('give either secret or keys', { subject: 'secret' })
  }
  const hmac = secret === undefined ? undefined : Buffer.from(secret)
  if (hmac !== undefined && hmac.byteLength < 32) {
    throw new InvalidArgumentError('secret must have at least 32 bytes', { subject: 'secret' })
  }
  const known = keys === undefined ? undefined : new Keys(keys)
  return async (token) => {
    if (token.length > maxTokenLength) return undefined
    const [head = '', body = '', signature = '', ...rest] = token.split('.')
    const header = decode(head)
    const claims = decode(body)
    const algorithm = Object.hasOwn(algorithms, String(header?.alg)) ? algorithms[String(header?.alg)] : undefined
    if (rest.length > 0 || header === undefined || claims === undefined || algorithm === undefined) return undefined
    // An extension that must be understood (RFC 7515, section 4.1.11), and is not.
    if (header.crit !== undefined) return undefined
    const signed = Buffer.from(`${head}.${body}`)
    const given = Buffer.from(signature, 'base64url')
    if (algorithm.kty.includes('oct')) {
      if (hmac === undefined || !sameMac(signed, given, algorithm.hash, hmac)) return undefined
    } else {
      const key = await known?.find(header, algorithm)
      if (key === undefined || !verifySignature(signed, given, algorithm, key)) return undefined
    }
    return holds(claims, options, leeway) ? identityOf(claims) : undefined
  }
}

/** A token signed by HMAC with SHA-256. */
export function signToken(claims: Readonly<Record<string, unknown>>, secret: Uint8Array): string {
  const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  const signed = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(claims)}`
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`
}

/** The public keys; asked for again when a token names another one, not more often than every ten seconds. */
class Keys {
  readonly #source: JsonWebKeySet | (() => Promise<JsonWebKeySet>)
  #set: JsonWebKeySet = { keys: [] }
  #loading: Promise<void> | undefined
  #loaded = Number.NEGATIVE_INFINITY

  constructor(source: JsonWebKeySet | (() => Promise<JsonWebKeySet>)) {
    this.#source = source
    if (typeof source !== 'function') this.#set = source
  }

  async find(header: Members, algorithm: Algorithm): Promise<KeyObject | undefined> {
    const found = this.#pick(header, algorithm)
    if (found !== undefined || typeof this.#source !== 'function') return found
    const load = this.#source
    if (this.#loading === undefined && Date.now() - this.#loaded < keysPause) return undefined
    this.#loading ??= load()
      .then((set) => {
        this.#set = set
      })
      .finally(() => {
        this.#loaded = Date.now()
        this.#loading = undefined
      })
    await this.#loading
    return this.#pick(header, algorithm)
  }

  #pick({ kid, alg }: Members, { kty }: Algorithm): KeyObject | undefined {
    const fits = this.#set.keys.filter(
      (key) => kty.includes(key.kty) && (key.alg === undefined || key.alg === alg) && (key.use ?? 'sig') === 'sig',
    )
    // A token that names no key is good with the only one there is.
    const key =
      kid === undefined && fits.length === 1 ? fits[0] : fits.find((one) => one.kid === kid && kid !== undefined)
    return key && createPublicKey({ key: { ...key }, format: 'jwk' })
  }
}

type Members = Readonly<Record<string, unknown>>

function decode(part: string): Members | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, 'base64url').toString('utf8'))
    return typeof value === 'object' && value !== null ? (value as Members) : undefined
  } catch {
    return undefined
  }
}

function sameMac(signed: Buffer, given: Buffer, hash: string, secret: Uint8Array): boolean {
  const actual = createHmac(hash, secret).update(signed).digest()
  return given.byteLength === actual.byteLength && timingSafeEqual(given, actual)
}

function verifySignature(signed: Buffer, given: Buffer, algorithm: Algorithm, key: KeyObject): boolean {
  try {
    return verify(algorithm.hash === '' ? undefined : algorithm.hash, signed, { key, ...algorithm.options }, given)
  } catch {
    return false
  }
}

function holds(claims: Members, { issuer, audience }: JwtVerifierOptions, leeway: number): boolean {
  const now = Date.now() / 1000
  const { exp, nbf, iss, aud } = claims
  if (typeof exp !== 'number' || exp + leeway <= now) return false
  if (nbf !== undefined && (typeof nbf !== 'number' || nbf - leeway > now)) return false
  if (issuer !== undefined && iss !== issuer) return false
  return audience === undefined || aud === audience || (Array.isArray(aud) && aud.includes(audience))
}

function identityOf({ sub, access }: Members): Identity {
  const list: readonly unknown[] = Array.isArray(access) ? access : []
  return { user: typeof sub === 'string' && sub !== '' ? sub : undefined, access: list.filter(isGrant) }
}

function isGrant(value: unknown): value is AccessGrant {
  if (typeof value !== 'object' || value === null) return false
  const { type, name, actions } = value as Members
  return typeof type === 'string' && typeof name === 'string' && Array.isArray(actions)
}
