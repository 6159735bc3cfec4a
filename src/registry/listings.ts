import type { Descriptor } from '../image/descriptor.ts'
import { mediaType } from '../image/media-type.ts'
import { Fault, jsonResponse } from './fault.ts'
import { requestDigest } from './names.ts'
import type { RegistryStorage } from './storage.ts'

/** Names in one answer; the rest is behind its Link. */
const maxPage = 10_000

/** About how many bytes the descriptors of one answer have; clients take 4 MiB of an index. */
const maxReferrersSize = 2 * 1024 * 1024

/** GET of the tags of a repository (end-8a, 8b). */
export async function listTags(
  storage: RegistryStorage,
  repository: string,
  query: URLSearchParams,
): Promise<Response> {
  const tags = await storage.listTags(repository)
  if (tags === undefined) throw new Fault('NAME_UNKNOWN', `there is no repository ${repository}`)
  const { page, headers } = paginate(tags, query, `/v2/${repository}/tags/list`)
  return jsonResponse({ name: repository, tags: page }, 200, headers)
}

/** GET of the names of all repositories (the reserved extension `_catalog`). */
export async function listRepositories(storage: RegistryStorage, query: URLSearchParams): Promise<Response> {
  const { page, headers } = paginate(await storage.listRepositories(), query, '/v2/_catalog')
  return jsonResponse({ repositories: page }, 200, headers)
}

/** GET of the manifests that refer to another one (end-12a, 12b). */
export async function listReferrers(
  storage: RegistryStorage,
  repository: string,
  text: string,
  query: URLSearchParams,
): Promise<Response> {
  const subject = requestDigest(text)
  const artifactType = query.get('artifactType') ?? ''
  const last = query.get('last') ?? ''
  const manifests: Descriptor[] = []
  let next: string | undefined
  let size = 0
  for await (const entry of storage.referrers(repository, subject, last)) {
    if (artifactType !== '' && entry.artifactType !== artifactType) continue
    size += Buffer.byteLength(JSON.stringify(entry))
    if (size > maxReferrersSize) next = manifests.at(-1)?.digest
    if (next !== undefined) break
    manifests.push(entry)
  }
  const filter: Record<string, string> = artifactType === '' ? {} : { artifactType }
  const headers: Record<string, string> = artifactType === '' ? {} : { 'OCI-Filters-Applied': 'artifactType' }
  if (next !== undefined) {
    headers.Link = nextLink(`/v2/${repository}/referrers/${subject}`, { ...filter, last: next })
  }
  return jsonResponse({ schemaVersion: 2, mediaType: mediaType.ociIndex, manifests }, 200, headers, mediaType.ociIndex)
}

interface Page {
  readonly page: readonly string[]
  readonly headers: Readonly<Record<string, string>>
}

/** The names that `n` and `last` ask for, in the order of their bytes, and the Link to those after them. */
function paginate(names: readonly string[], query: URLSearchParams, path: string): Page {
  const n = query.get('n')
  if (n !== null && !/^\d{1,10}$/.test(n)) throw new Fault('UNSUPPORTED', 'n must be a number', { status: 400 })
  const last = query.get('last') ?? ''
  const limit = Math.min(n === null ? maxPage : Number(n), maxPage)
  const rest = names.filter((name) => name > last).sort()
  const page = rest.slice(0, limit)
  const end = page.at(-1)
  if (end === undefined || page.length === rest.length) return { page, headers: {} }
  return { page, headers: { Link: nextLink(path, { n: String(limit), last: end }) } }
}

function nextLink(path: string, query: Readonly<Record<string, string>>): string {
  return `<${path}?${new URLSearchParams(query)}>; rel="next"`
}
