import type { ReferrersOptions } from '../content/interfaces.ts'
import { referrerOf } from '../content/referrer.ts'
import type { Descriptor } from '../image/descriptor.ts'
import { type Digest, parseDigest } from '../image/digest.ts'
import { parseIndex } from '../image/image-index.ts'
import { mediaType, mediaTypeEssence } from '../image/media-type.ts'
import { type Endpoint, send, subjectOf } from './endpoint.ts'
import { readPages } from './paging.ts'
import { referrersByTag, updateReferrersTag } from './referrers-tag.ts'
import type { HttpResponse } from './transport.ts'

/** Answers by which a registry says that it has no referrers API; the specification names 404 only. */
const withoutApi = [400, 404, 405, 406, 501]

/**
 * Manifests whose `subject` is the one with this digest: by the referrers API, all pages of it, or
 * where the registry has none, by the tag schema. Each once.
 */
export async function* listReferrers(
  endpoint: Endpoint,
  subject: Digest,
  { artifactType, signal }: ReferrersOptions,
): AsyncGenerator<Descriptor, void, undefined> {
  parseDigest(subject)
  const given = new Set<Digest>()
  for await (const entries of batches(endpoint, subject, artifactType, signal)) {
    for (const entry of entries) {
      // Registries may leave the filter to the client.
      if (artifactType !== undefined && entry.artifactType !== artifactType) continue
      if (given.has(entry.digest)) continue
      given.add(entry.digest)
      yield entry
    }
  }
}

async function* batches(
  endpoint: Endpoint,
  subject: Digest,
  artifactType: string | undefined,
  signal: AbortSignal | undefined,
): AsyncGenerator<readonly Descriptor[], void, undefined> {
  const filter = artifactType === undefined ? '' : `?${new URLSearchParams({ artifactType })}`
  const name = `referrers of ${subjectOf(endpoint, subject)}`
  let usable = false
  const fetchPage = async (path: string | URL): Promise<HttpResponse | undefined> => {
    const response = await getReferrers(endpoint, path, signal)
    usable ||= isAnswer(response)
    if (usable) return response
    response.discard()
    return undefined
  }
  for await (const { bytes, response } of readPages(`referrers/${subject}${filter}`, fetchPage, name, signal)) {
    yield parseIndex(bytes, response.headers.get('content-type') ?? undefined).value.manifests
  }
  if (!usable) yield await referrersByTag(endpoint, subject, signal)
}

function getReferrers(endpoint: Endpoint, path: string | URL, signal: AbortSignal | undefined): Promise<HttpResponse> {
  const headers = { accept: mediaType.ociIndex }
  const accept = typeof path === 'string' ? [200, ...withoutApi] : [200]
  return send(endpoint, { method: 'GET', path, actions: ['pull'], headers, accept, signal })
}

/** Whether it is the list: some registries answer unknown paths with a page for people. */
function isAnswer(response: HttpResponse): boolean {
  const type = mediaTypeEssence(response.headers.get('content-type') ?? '')
  return response.status === 200 && type === mediaType.ociIndex
}

/**
 * Whether the registry has the referrers API. Only a yes is remembered: some registries say 404 of a
 * repository that is empty.
 */
async function hasReferrersApi(endpoint: Endpoint, subject: Digest, signal: AbortSignal | undefined): Promise<boolean> {
  const { features } = endpoint.connection
  if (!features.referrers) {
    const response = await getReferrers(endpoint, `referrers/${subject}`, signal)
    features.referrers = isAnswer(response)
    response.discard()
  }
  return features.referrers
}

/**
 * After a manifest with a subject has been pushed: enters it in the list of the subject's referrers,
 * unless the registry does that itself. It says so by `OCI-Subject`; as some say it without doing it,
 * the API is looked at too.
 */
export async function registerReferrer(
  endpoint: Endpoint,
  descriptor: Descriptor,
  bytes: Uint8Array,
  pushed: HttpResponse,
  signal: AbortSignal | undefined,
): Promise<void> {
  const referrer = referrerOf(descriptor, bytes)
  if (referrer === undefined) return
  const { subject, descriptor: entry } = referrer
  const claimed = pushed.headers.get('oci-subject')?.trim() === subject
  if (claimed && (await hasReferrersApi(endpoint, subject, signal))) return
  await updateReferrersTag(
    endpoint,
    subject,
    (list) => (list.some(({ digest }) => digest === entry.digest) ? list : [...list, entry]),
    signal,
  )
}

/** After a manifest with a subject has been deleted: takes it off the list that the tag schema has, if there is one. */
export async function unregisterReferrer(
  endpoint: Endpoint,
  descriptor: Descriptor,
  bytes: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<void> {
  const subject = referrerOf(descriptor, bytes)?.subject
  if (subject === undefined || (await hasReferrersApi(endpoint, subject, signal))) return
  const remove = (list: readonly Descriptor[]): readonly Descriptor[] => {
    const rest = list.filter(({ digest }) => digest !== descriptor.digest)
    return rest.length === list.length ? list : rest
  }
  await updateReferrersTag(endpoint, subject, remove, signal)
}
