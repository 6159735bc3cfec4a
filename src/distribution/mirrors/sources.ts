import { isDigest } from '../../image/digest.ts'
import type { Endpoint } from '../endpoint.ts'

/** A copy of a repository that is asked first. */
export interface Mirror {
  readonly endpoint: Endpoint
  readonly pull: 'all' | 'digest' | 'tag'
}

/** Where something may be pulled from, in order; the repository itself is the last. */
export function sourcesOf(endpoint: Endpoint, reference: string): readonly [...Endpoint[], Endpoint] {
  const kind = isDigest(reference) ? 'digest' : 'tag'
  const mirrors = endpoint.mirrors.filter(({ pull }) => pull === 'all' || pull === kind)
  return [...mirrors.map((mirror) => mirror.endpoint), endpoint]
}

/** Tells that a source is passed over. */
export function noteMirrorFailure(endpoint: Endpoint, mirror: Endpoint, subject: string, error: unknown): void {
  const name = `${mirror.registry}/${mirror.repository}`
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
