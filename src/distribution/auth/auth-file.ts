import { InvalidArgumentError } from '../../errors.ts'
import type { Credential } from './credential.ts'

/** Bytes of a configuration that are accepted. */
const maxConfigSize = 4 * 1024 * 1024

/**
 * Reads a configuration with credentials: Docker's config.json or podman's auth.json. Undefined when
 * there is no such file.
 * @throws InvalidArgumentError for one that can't be read or is no JSON.
 */
export async function readAuthFile(path: string, signal: AbortSignal | undefined): Promise<unknown> {
  const { readFile, stat } = await import('node:fs/promises')
  let text: string
  try {
    const { size } = await stat(path)
    if (size > maxConfigSize) throw unusable(path, `it is larger than ${maxConfigSize} bytes`)
    text = await readFile(path, { encoding: 'utf8', signal })
  } catch (error) {
    signal?.throwIfAborted()
    const code: unknown = error instanceof Error ? Reflect.get(error, 'code') : undefined
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw error instanceof InvalidArgumentError ? error : unusable(path, `it can't be read (${String(code)})`, error)
  }
  try {
    return JSON.parse(text)
  } catch {
    // The parser's message quotes the text, which holds secrets.
    throw unusable(path, 'it is no valid JSON')
  }
}

function unusable(path: string, reason: string, cause?: unknown): InvalidArgumentError {
  return new InvalidArgumentError(`the credentials in ${path} can't be used: ${reason}`, {
    subject: path,
    cause,
    hint: 'Repair or remove the file, or pass the option `credentials`.',
  })
}

/** Names under which `docker login` has stored Docker Hub. */
const hubNames: ReadonlySet<string> = new Set(['docker.io', 'index.docker.io', 'registry-1.docker.io'])

/** Host of a key such as `https://ghcr.io/v2/`; undefined for one that is bound to a namespace below the host. */
export function hostOfKey(key: string): string | undefined {
  const match = /^(?:https?:\/\/)?([^/]+)(?:\/(?:v[12]\/?)?)?$/.exec(key.toLowerCase())
  const host = match?.[1]?.replace(/:443$/, '')
  return host !== undefined && hubNames.has(host) ? 'docker.io' : host
}

/** The entry whose key is the registry exactly; else the first whose key means the same host. */
export function findByHost(entries: unknown, registry: string): [key: string, value: unknown] | undefined {
  if (typeof entries !== 'object' || entries === null) return undefined
  const list = Object.entries(entries)
  const host = hostOfKey(registry)
  return list.find(([key]) => key.toLowerCase() === registry) ?? list.find(([key]) => hostOfKey(key) === host)
}

/** The credential in one entry of `auths`. */
export function credentialOf(entry: unknown, path: string): Credential | undefined {
  const identity = text(entry, 'identitytoken')
  if (identity !== '') return { kind: 'identity', token: identity }
  const bearer = text(entry, 'registrytoken')
  if (bearer !== '') return { kind: 'bearer', token: bearer }
  const auth = text(entry, 'auth')
  if (auth === '') return password(text(entry, 'username'), text(entry, 'password'))
  const decoded = Buffer.from(auth, 'base64').toString('utf8')
  const colon = decoded.indexOf(':')
  if (colon < 0) throw unusable(path, 'an "auth" in it does not decode to "user:password"')
  // Docker pads what it encodes with NUL.
  return password(decoded.slice(0, colon), decoded.slice(colon + 1).replace(/\0+$/, ''))
}

function password(username: string, secret: string): Credential | undefined {
  return username === '' ? undefined : { kind: 'password', username, password: secret }
}

/** A member of a JSON object; undefined for anything else. */
export function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
}

/** A member that is a string; empty for anything else. */
export function text(entry: unknown, name: string): string {
  const value = field(entry, name)
  return typeof value === 'string' ? value : ''
}
