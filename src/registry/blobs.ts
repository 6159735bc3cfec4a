import { isVerifiable } from '../image/digest.ts'
import { Fault } from './fault.ts'
import { contentDigest, requestDigest } from './names.ts'
import { parseRange } from './range.ts'
import type { RepositoryLocks } from './repository-locks.ts'
import type { RegistryStorage } from './storage.ts'

/** GET and HEAD of a blob, whole or by Range (end-2). */
export async function getBlob(
  storage: RegistryStorage,
  repository: string,
  text: string,
  request: Request,
): Promise<Response> {
  const digest = requestDigest(text)
  const blob = isVerifiable(digest) ? await storage.openBlob(repository, digest) : undefined
  if (blob === undefined) throw unknown(repository, digest)
  const headers = new Headers({
    'Content-Type': 'application/octet-stream',
    'Docker-Content-Digest': digest,
    'Accept-Ranges': 'bytes',
    ETag: `"${digest}"`,
    'Cache-Control': 'max-age=31536000, immutable',
  })
  // Content under a digest never changes, so a Range is good whatever If-Range says; a HEAD has none (RFC 9110, 14.2).
  const head = request.method === 'HEAD'
  const range = head ? undefined : parseRange(request.headers.get('range'), blob.size)
  const known = matches(request.headers.get('if-none-match'), digest)
  if (head || known || range === 'unsatisfiable') await blob.close()
  if (known) return new Response(null, { status: 304, headers })
  if (range === 'unsatisfiable') {
    throw new Fault('SIZE_INVALID', `the range is not within the ${blob.size} bytes of the blob`, {
      status: 416,
      headers: { 'Content-Range': `bytes */${blob.size}` },
    })
  }
  const { start, end } = range ?? { start: 0, end: blob.size }
  headers.set('Content-Length', String(end - start))
  if (range !== undefined) headers.set('Content-Range', `bytes ${start}-${end - 1}/${blob.size}`)
  return new Response(head ? null : blob.read(start, end), { status: range === undefined ? 200 : 206, headers })
}

/** DELETE of a blob (end-10). */
export async function deleteBlob(
  { storage, locks }: { readonly storage: RegistryStorage; readonly locks: RepositoryLocks },
  repository: string,
  text: string,
): Promise<Response> {
  const digest = contentDigest(text)
  if (!(await locks.run(repository, () => storage.deleteBlob(repository, digest)))) throw unknown(repository, digest)
  return new Response(null, { status: 202, headers: { 'Content-Length': '0' } })
}

/** Whether an If-Match or If-None-Match header lists the digest as an entity tag. */
export function matches(header: string | null, digest: string): boolean {
  if (header === null) return false
  return header.split(',').some((tag) => {
    const value = tag.trim().replace(/^W\//, '')
    return value === '*' || value === `"${digest}"`
  })
}

function unknown(repository: string, digest: string): Fault {
  return new Fault('BLOB_UNKNOWN', `${repository} has no blob ${digest}`, { subject: digest, detail: { digest } })
}
