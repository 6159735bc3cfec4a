import { NetworkError } from '../../errors.ts'
import { isDigest } from '../../image/digest.ts'
import type { Endpoint } from '../endpoint.ts'

/** A copy of a repository that is asked first. */
export interface Mirror {
  readonly endpoint: Endpoint
  readonly pull: 'all' | 'digest' | 'tag'
}

/** Milliseconds for which a mirror is not asked that could not be reached. */
const rest = 60_000

/** Where something may be pulled from, in order; the repository itself is the last. A mirror that is down is left out. */
export function sourcesOf(endpoint: Endpoint, reference: string): readonly [...Endpoint[], Endpoint] {
  const kind = isDigest(reference) ? 'digest' : 'tag'
  const now = performance.now()
  const mirrors = endpoint.mirrors.filter(
    (mirror) => (mirror.pull === 'all' || mirror.pull === kind) && mirror.endpoint.connection.restsUntil <= now,
  )
  return [...mirrors.map((mirror) => mirror.endpoint), endpoint]
}

/** Tells that a source is passed over. */
export function noteMirrorFailure(endpoint: Endpoint, mirror: Endpoint, subject: string, error: unknown): void {
  const name = `${mirror.registry}/${mirror.repository}`
  if (isDown(error)) mirror.connection.restsUntil = performance.now() + rest
  endpoint.connection.notify({ kind: 'mirror-failed', registry: endpoint.registry, mirror: name, subject, error })
}

/** What the first source gives that can; the failure of the repository itself when none can. */
export async function fromFirst<T>(
  endpoint: Endpoint,
  reference: string,
  signal: AbortSignal | undefined,
  ask: (source: Endpoint) => Promise<T>,
): Promise<T> {
  for (const source of sourcesOf(endpoint, reference)) {
    if (source === endpoint) break
    try {
      return await ask(source)
    } catch (error) {
      signal?.throwIfAborted()
      noteMirrorFailure(endpoint, source, reference, error)
    }
  }
  return ask(endpoint)
}

/** Whether nothing came of a connection: nobody listens, or nobody answers. One that breaks is another matter. */
function isDown(error: unknown): boolean {
  if (!(error instanceof NetworkError)) return false
  const cause: unknown = error.cause instanceof Error ? Reflect.get(error.cause, 'code') : undefined
  return cause !== 'ECONNRESET' && cause !== 'EPIPE' && cause !== 'ERR_STREAM_PREMATURE_CLOSE'
}
