import { InvalidArgumentError } from '../../errors.ts'
import type { Credential, CredentialProvider } from './credential.ts'

/** Where Docker's configuration is looked for. */
export interface DockerConfigOptions {
  /** Path of the file; default `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`. */
  readonly path?: string | undefined
}

/** Bytes of a configuration that are accepted. */
const maxConfigSize = 4 * 1024 * 1024

/**
 * Credentials that `docker login` has left in the `auths` of Docker's config.json. The file is read
 * each time a credential is asked for; one that does not exist holds none.
 *
 * Entries are found by host, in any of the spellings Docker has used: `ghcr.io`, `https://ghcr.io`,
 * `https://index.docker.io/v1/`. Credential helpers are not asked yet.
 * @throws InvalidArgumentError, when called, for a file that is no JSON object.
 */
export function dockerConfigCredentials(options: DockerConfigOptions = {}): CredentialProvider {
  return async ({ registry, signal }) => {
    const path = options.path ?? (await defaultPath())
    const auths = field(await readConfig(path, signal), 'auths')
    if (typeof auths !== 'object' || auths === null) return undefined
    return credentialOf(findEntry(auths, registry.toLowerCase()), path)
  }
}

async function defaultPath(): Promise<string> {
  const { join } = await import('node:path')
  const { homedir } = await import('node:os')
  return join(process.env.DOCKER_CONFIG || join(homedir(), '.docker'), 'config.json')
}

async function readConfig(path: string, signal: AbortSignal | undefined): Promise<unknown> {
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
  return new InvalidArgumentError(`Docker's configuration ${path} can't be used: ${reason}`, {
    subject: path,
    cause,
    hint: 'Repair or remove the file, or pass the option `credentials`.',
  })
}

/** The entry whose key is the registry exactly; else the first whose key means the same host. */
function findEntry(auths: object, registry: string): unknown {
  const exact = Object.entries(auths).find(([key]) => key.toLowerCase() === registry)
  const match = exact ?? Object.entries(auths).find(([key]) => hostOfKey(key) === hostOfKey(registry))
  return match?.[1]
}

/** Names under which `docker login` has stored Docker Hub. */
const hubNames: ReadonlySet<string> = new Set(['docker.io', 'index.docker.io', 'registry-1.docker.io'])

/** Host of a key; undefined for one that is bound to a namespace below the host. */
function hostOfKey(key: string): string | undefined {
  const match = /^(?:https?:\/\/)?([^/]+)(?:\/(?:v[12]\/?)?)?$/.exec(key.toLowerCase())
  const host = match?.[1]?.replace(/:443$/, '')
  return host !== undefined && hubNames.has(host) ? 'docker.io' : host
}

function credentialOf(entry: unknown, path: string): Credential | undefined {
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

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
}

function text(entry: unknown, name: string): string {
  const value = field(entry, name)
  return typeof value === 'string' ? value : ''
}
