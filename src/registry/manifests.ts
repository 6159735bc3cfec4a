import { SpecError } from '../errors.ts'
import { type Digest, type DigestAlgorithm, digestAlgorithm, digestOf, isVerifiable } from '../image/digest.ts'
import { quote } from '../internal/text.ts'
import { matches } from './blobs.ts'
import { readBody } from './body.ts'
import { Fault } from './fault.ts'
import { type PushedManifest, parsePushedManifest } from './manifest-content.ts'
import { contentDigest, isTag, requestDigest } from './names.ts'
import type { Quota } from './quota.ts'
import type { RepositoryLocks } from './repository-locks.ts'
import type { RegistryStorage } from './storage.ts'

export interface ManifestEndpoints {
  readonly storage: RegistryStorage
  readonly locks: RepositoryLocks
  readonly quota: Quota
  /** Largest manifest that is taken, in bytes. */
  readonly maxManifestSize: number
  /** Whether manifests are taken whose content is not there. */
  readonly sparseManifests: boolean
}

/** Tags that one request may set. */
const maxTagParameters = 100

/** Missing blobs that one error lists. */
const maxMissing = 100

/** GET and HEAD of a manifest, by tag or digest (end-3). */
export async function getManifest(
  { storage }: ManifestEndpoints,
  repository: string,
  reference: string,
  request: Request,
): Promise<Response> {
  const digest = await resolve(storage, repository, reference)
  const manifest = digest && (await storage.getManifest(repository, digest))
  if (digest === undefined || manifest === undefined) throw unknown(repository, reference)
  const headers = {
    'Content-Type': manifest.mediaType,
    'Content-Length': String(manifest.raw.byteLength),
    'Docker-Content-Digest': digest,
    ETag: `"${digest}"`,
  }
  if (matches(request.headers.get('if-none-match'), digest)) return new Response(null, { status: 304, headers })
  return new Response(request.method === 'HEAD' ? null : Buffer.from(manifest.raw), { headers })
}

/** PUT of a manifest, by tag, or by digest with tags as parameters (end-7a, 7b). */
export async function putManifest(
  registry: ManifestEndpoints,
  repository: string,
  reference: string,
  request: Request,
  query: URLSearchParams,
): Promise<Response> {
  const wanted = reference.includes(':') ? contentDigest(reference) : undefined
  const tags = wanted === undefined ? [reference] : [...new Set(query.getAll('tag'))]
  checkTags(tags)
  const raw = await readBody(request, registry.maxManifestSize, () => tooLarge(registry.maxManifestSize))
  const digest = digestOf(raw, wanted === undefined ? 'sha256' : (digestAlgorithm(wanted) as DigestAlgorithm))
  if (wanted !== undefined && wanted !== digest) {
    throw new Fault('DIGEST_INVALID', `the manifest has the digest ${digest}, not ${wanted}`)
  }
  const manifest = parse(raw, digest, request.headers.get('content-type') ?? undefined)
  await registry.locks.run(repository, async () => {
    await checkPrecondition(registry.storage, repository, reference, request)
    if (!registry.sparseManifests) await checkContent(registry.storage, repository, manifest)
    await registry.quota.hold(repository, raw.byteLength)
    try {
      await registry.storage.putManifest(repository, digest, { mediaType: manifest.mediaType, raw }, manifest.referrer)
    } finally {
      registry.quota.release(repository, raw.byteLength)
    }
    for (const tag of tags) await registry.storage.putTag(repository, tag, digest)
  })
  const headers = new Headers({
    Location: `/v2/${repository}/manifests/${digest}`,
    'Docker-Content-Digest': digest,
    'Content-Length': '0',
  })
  if (manifest.referrer !== undefined) headers.set('OCI-Subject', manifest.referrer.subject)
  if (wanted !== undefined && tags.length > 0) headers.set('OCI-Tag', tags.join(', '))
  return new Response(null, { status: 201, headers })
}

/** DELETE of a tag, or of a manifest with every tag that points at it (end-9). */
export async function deleteManifest(
  { storage, locks }: ManifestEndpoints,
  repository: string,
  reference: string,
  request: Request,
): Promise<Response> {
  const digest = reference.includes(':') ? contentDigest(reference) : undefined
  await locks.run(repository, async () => {
    await checkPrecondition(storage, repository, reference, request)
    const there =
      digest === undefined
        ? isTag(reference) && (await storage.deleteTag(repository, reference))
        : await storage.deleteManifest(repository, digest)
    if (!there) throw unknown(repository, reference)
  })
  return new Response(null, { status: 202, headers: { 'Content-Length': '0' } })
}

async function resolve(storage: RegistryStorage, repository: string, reference: string): Promise<Digest | undefined> {
  if (!reference.includes(':')) return isTag(reference) ? storage.getTag(repository, reference) : undefined
  const digest = requestDigest(reference)
  return isVerifiable(digest) ? digest : undefined
}

function parse(raw: Uint8Array, digest: Digest, contentType: string | undefined): PushedManifest {
  try {
    return parsePushedManifest(raw, digest, contentType)
  } catch (error) {
    if (!(error instanceof SpecError)) throw error
    throw new Fault('MANIFEST_INVALID', error.message, { detail: error.issues, cause: error })
  }
}

/** If-Match and If-None-Match of a change (RFC 9110, section 13.1): clients use them to update a tag without a race. */
async function checkPrecondition(
  storage: RegistryStorage,
  repository: string,
  reference: string,
  request: Request,
): Promise<void> {
  const ifMatch = request.headers.get('if-match')
  const ifNoneMatch = request.headers.get('if-none-match')
  if (ifMatch === null && ifNoneMatch === null) return
  const target = await resolve(storage, repository, reference)
  const current = target && (await storage.getManifest(repository, target)) && target
  const holds =
    (ifMatch === null || (current !== undefined && matches(ifMatch, current))) &&
    (ifNoneMatch === null || current === undefined || !matches(ifNoneMatch, current))
  if (!holds) throw new Fault('DENIED', `${quote(reference)} is not in the state that was asked for`, { status: 412 })
}

async function checkContent(storage: RegistryStorage, repository: string, manifest: PushedManifest): Promise<void> {
  const missing: Digest[] = []
  for (const digest of manifest.required) {
    if (!isVerifiable(digest) || !(await storage.has(repository, digest))) missing.push(digest)
  }
  if (missing.length === 0) return
  throw new Fault('MANIFEST_BLOB_UNKNOWN', `${repository} lacks content of the manifest: ${missing[0]}`, {
    detail: missing.slice(0, maxMissing).map((digest) => ({ digest })),
  })
}

function checkTags(tags: readonly string[]): void {
  if (tags.length > maxTagParameters) {
    throw new Fault('MANIFEST_INVALID', `at most ${maxTagParameters} tags can be set at once`, { status: 414 })
  }
  const bad = tags.find((tag) => !isTag(tag))
  if (bad !== undefined) throw new Fault('MANIFEST_INVALID', `${quote(bad)} is no tag`)
}

function tooLarge(limit: number): Fault {
  return new Fault('SIZE_INVALID', `a manifest can have at most ${limit} bytes`, { status: 413 })
}

function unknown(repository: string, reference: string): Fault {
  return new Fault('MANIFEST_UNKNOWN', `${repository} has no manifest ${quote(reference)}`, { detail: { reference } })
}
