import type { Descriptor } from '../image/descriptor.ts'
import { isVerifiable } from '../image/digest.ts'
import { type Endpoint, send } from './endpoint.ts'
import { assertStored, assertTag } from './manifests.ts'
import { registerReferrer } from './referrers.ts'
import type { HttpResponse } from './transport.ts'

/** Tags of one push. */
const maxTags = 100

/**
 * Stores a verified manifest, byte for byte, under its digest, and under tags: in the same request
 * where the registry can do that (`?tag=`, answered by `OCI-Tag`), else one by one. Enters it among
 * the referrers of its subject where the registry does not do so.
 */
export async function pushManifest(
  endpoint: Endpoint,
  descriptor: Descriptor,
  bytes: Uint8Array,
  tags: readonly string[],
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const tag of tags) assertTag(tag)
  const query = tags.slice(0, maxTags).map((tag) => `tag=${encodeURIComponent(tag)}`)
  const path = query.length === 0 ? descriptor.digest : `${descriptor.digest}?${query.join('&')}`
  const response = await putManifest(endpoint, path, descriptor.digest, descriptor, bytes, signal)
  const tagged = (response.headers.get('oci-tag') ?? '').split(',').map((tag) => tag.trim())
  for (const tag of tags) {
    if (!tagged.includes(tag)) await putManifest(endpoint, tag, tag, descriptor, bytes, signal)
  }
  await registerReferrer(endpoint, descriptor, bytes, response, signal)
}

/** Stores a verified manifest under a tag. */
export async function tagManifest(
  endpoint: Endpoint,
  tag: string,
  descriptor: Descriptor,
  bytes: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<void> {
  await putManifest(endpoint, tag, tag, descriptor, bytes, signal)
}

async function putManifest(
  endpoint: Endpoint,
  path: string,
  reference: string,
  descriptor: Descriptor,
  bytes: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<HttpResponse> {
  const response = await send(endpoint, {
    method: 'PUT',
    path: `manifests/${path}`,
    reference,
    actions: ['pull', 'push'],
    headers: { 'content-type': descriptor.mediaType },
    body: bytes,
    accept: [200, 201],
    signal,
  })
  response.discard()
  assertStored(response, descriptor.digest)
  if (isVerifiable(descriptor.digest)) endpoint.manifests.set(descriptor.digest, bytes)
  return response
}
