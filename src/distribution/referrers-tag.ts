import { ConflictError, ProtocolError, RegistryError, SpecError } from '../errors.ts'
import { type Descriptor, descriptorOf } from '../image/descriptor.ts'
import { type Digest, digestAlgorithm, digestEncoded } from '../image/digest.ts'
import { type ImageIndex, parseIndex } from '../image/image-index.ts'
import { mediaType } from '../image/media-type.ts'
import { delay } from '../internal/abort.ts'
import { KeyedQueue } from '../internal/keyed-queue.ts'
import { type Endpoint, send, subjectOf } from './endpoint.ts'
import { acceptHeader, announcedDigest, digestLike } from './manifests.ts'
import { readBody } from './response.ts'
import { backoff } from './retry.ts'

/**
 * Tag under which the referrers of a manifest are listed where a registry has no referrers API
 * (distribution-spec, "Referrers Tag Schema"): algorithm and encoded part, cut to 32 and 64
 * characters, with `-` for what tags may not have.
 */
export function referrersTag(digest: Digest): string {
  const part = (text: string, length: number): string => text.slice(0, length).replace(/[^\w.-]/g, '-')
  return `${part(digestAlgorithm(digest), 32)}-${part(digestEncoded(digest), 64)}`
}

/** The list that a tag of the schema points at. */
interface TagIndex {
  readonly index: ImageIndex
  readonly etag: string | undefined
}

/** Why what the tag points at is no list of referrers; such a tag is not touched. */
interface Unusable {
  readonly fault: string
  readonly cause?: unknown
}

/** Referrers of `subject` by the tag schema; none where there is no tag, or no list behind it. */
export async function referrersByTag(
  endpoint: Endpoint,
  subject: Digest,
  signal: AbortSignal | undefined,
): Promise<readonly Descriptor[]> {
  const found = await readTagIndex(endpoint, subject, signal)
  return found === undefined || 'fault' in found ? [] : found.index.manifests
}

/** Updates of one list within this process, one after another, whichever clients make them. */
const updates = new KeyedQueue()
/** How often a list is read, and written, until nobody else has changed it meanwhile. */
const maxRounds = 20
/** Milliseconds after which a list that was written is looked at once more, at least and at most. */
const [leastSettling, mostSettling] = [100, 1_000]

/** What a change makes of a list; the same list when there is nothing to change. */
export type ReferrersChange = (manifests: readonly Descriptor[]) => readonly Descriptor[]

/**
 * Changes the list of referrers of `subject` under its tag, without losing what others write at the
 * same time: with `If-Match` where the registry gives an ETag, and in any case the list is read again
 * afterwards, until the change is in it, and stays there: registries ignore `If-Match`, and another client
 * that had read the list before we wrote it may then write it back without the change.
 * @throws ProtocolError when the tag names something that is no list of referrers; it stays as it is.
 * @throws ConflictError when others kept changing the list.
 */
export function updateReferrersTag(
  endpoint: Endpoint,
  subject: Digest,
  change: ReferrersChange,
  signal: AbortSignal | undefined,
): Promise<void> {
  const name = subjectOf(endpoint, referrersTag(subject))
  return updates.run(`${endpoint.connection.origin.origin} ${name}`, async () => {
    let writes = 0
    let settling: number | undefined
    for (let round = 0; round < maxRounds; round++) {
      if (writes > 1) await delay(backoff(writes - 1, endpoint.connection.retry), signal)
      const begin = performance.now()
      const found = await readTagIndex(endpoint, subject, signal)
      if (found !== undefined && 'fault' in found) {
        const reason = `the tag ${name} should list the referrers of ${subject}, but ${found.fault}`
        throw new ProtocolError(endpoint.connection.origin.href, reason, { cause: found.cause })
      }
      const before = found?.index.manifests ?? []
      const after = change(before)
      if (after === before) {
        if (settling === undefined) return
        await delay(settling, signal)
        settling = undefined
        continue
      }
      await putTagIndex(endpoint, subject, { ...emptyIndex, ...found?.index, manifests: after }, found, signal)
      writes++
      // As long as another client may take from reading to writing, and more.
      settling = Math.min(Math.max(leastSettling, 2 * (performance.now() - begin)), mostSettling)
    }
    throw new ConflictError(name, `the list of referrers ${name} was changed by others ${maxRounds} times in a row`)
  })
}

const emptyIndex: ImageIndex = { schemaVersion: 2, mediaType: mediaType.ociIndex, manifests: [] }

async function readTagIndex(
  endpoint: Endpoint,
  subject: Digest,
  signal: AbortSignal | undefined,
): Promise<TagIndex | Unusable | undefined> {
  const tag = referrersTag(subject)
  const response = await send(endpoint, {
    method: 'GET',
    path: `manifests/${tag}`,
    reference: tag,
    actions: ['pull'],
    headers: acceptHeader(),
    accept: [200, 404],
    signal,
  })
  if (response.status === 404) {
    response.discard()
    return undefined
  }
  const bytes = await readBody(response, endpoint.maxManifestSize, `referrers ${subjectOf(endpoint, tag)}`, signal)
  // GitLab finds a manifest by such a tag: its own layers would be taken for what refers to it.
  if (digestLike(bytes, subject) === subject || announcedDigest(response) === subject) {
    return { fault: 'it names that very manifest' }
  }
  try {
    const { value } = parseIndex(bytes, response.headers.get('content-type') ?? undefined)
    return { index: value, etag: response.headers.get('etag') ?? undefined }
  } catch (error) {
    if (error instanceof SpecError) return { fault: 'it names no image index', cause: error }
    throw error
  }
}

/** Writes the list; that somebody else was faster is no error, it shows when the list is read again. */
async function putTagIndex(
  endpoint: Endpoint,
  subject: Digest,
  index: ImageIndex,
  found: TagIndex | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  const tag = referrersTag(subject)
  const bytes = new TextEncoder().encode(JSON.stringify(index))
  const { digest } = descriptorOf(mediaType.ociIndex, bytes)
  const condition = found === undefined ? { 'if-none-match': '*' } : { 'if-match': found.etag ?? '' }
  const response = await send(endpoint, {
    method: 'PUT',
    path: `manifests/${tag}`,
    reference: tag,
    actions: ['pull', 'push'],
    headers: {
      'content-type': mediaType.ociIndex,
      ...(found !== undefined && found.etag === undefined ? {} : condition),
    },
    body: bytes,
    accept: [200, 201, 412],
    signal,
  })
  response.discard()
  const stored = response.status === 412 ? undefined : announcedDigest(response)
  if (stored !== undefined && digestAlgorithm(stored) === 'sha256' && stored !== digest) {
    throw new RegistryError({
      method: 'PUT',
      url: endpoint.connection.origin.href,
      status: response.status,
      subject: tag,
    })
  }
}
