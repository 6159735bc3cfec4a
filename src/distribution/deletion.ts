import { UnsupportedError } from '../errors.ts'
import { type Digest, parseDigest } from '../image/digest.ts'
import { type Endpoint, send, subjectOf } from './endpoint.ts'
import { assertTag } from './manifests.ts'

/** Statuses by which registries say that they delete nothing, or not this (distribution-spec: 405, or 400 for tags). */
const refusals = [400, 405, 501]

/**
 * Deletes a manifest by digest: with it go all its tags.
 * @throws NotFoundError, UnsupportedError
 */
export async function deleteManifest(
  endpoint: Endpoint,
  digest: Digest,
  signal: AbortSignal | undefined,
): Promise<void> {
  await remove(endpoint, `manifests/${parseDigest(digest)}`, digest, 'manifests', signal)
  endpoint.manifests.delete(digest)
}

/** Deletes a tag; the manifest stays. @throws NotFoundError, UnsupportedError */
export async function deleteTag(endpoint: Endpoint, tag: string, signal: AbortSignal | undefined): Promise<void> {
  assertTag(tag)
  await remove(endpoint, `manifests/${tag}`, tag, 'single tags', signal)
}

/** Deletes a blob. @throws NotFoundError, UnsupportedError */
export function deleteBlob(endpoint: Endpoint, digest: Digest, signal: AbortSignal | undefined): Promise<void> {
  return remove(endpoint, `blobs/${parseDigest(digest)}`, digest, 'blobs', signal)
}

async function remove(
  endpoint: Endpoint,
  path: string,
  reference: string,
  what: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const response = await send(endpoint, {
    method: 'DELETE',
    path,
    reference,
    actions: ['pull', 'delete'],
    accept: [200, 202, 204, ...refusals],
    signal,
  })
  response.discard()
  if (!refusals.includes(response.status)) return
  throw new UnsupportedError(
    `deleting ${subjectOf(endpoint, reference)}`,
    `the registry answered with ${response.status}: it deletes no ${what}`,
  )
}
