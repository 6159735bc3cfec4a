import { type Digest, isDigest, isVerifiable } from '../image/digest.ts'
import type { Access } from './auth/guard.ts'
import { contentLength } from './body.ts'
import { Fault } from './fault.ts'
import { contentDigest, isRepository } from './names.ts'
import type { Quota } from './quota.ts'
import { parseContentRange } from './range.ts'
import type { RegistryStorage } from './storage.ts'
import { type UploadSession, uploadRange } from './upload-session.ts'
import type { Chunk, UploadSessions } from './upload-sessions.ts'

export interface UploadEndpoints {
  readonly storage: RegistryStorage
  readonly sessions: UploadSessions
  readonly quota: Quota
  /** Announced as OCI-Chunk-Min-Length, in bytes; 0 for none. */
  readonly chunkMinLength: number
  readonly anonymousMount: boolean
}

/** POST: begins an upload, mounts a blob, or takes a whole blob at once (end-4a, 4b, 4c, 11). */
export async function beginUpload(
  registry: UploadEndpoints,
  repository: string,
  request: Request,
  query: URLSearchParams,
  access: Access,
): Promise<Response> {
  const mount = query.get('mount')
  if (mount !== null && (await mountBlob(registry, repository, mount, query.get('from'), access))) {
    return blobCreated(repository, mount)
  }
  const digest = query.get('digest')
  if (digest !== null && mount === null) return pushBlob(registry, repository, request, digest)
  const session = await registry.sessions.create(repository, query.get('digest-algorithm') ?? 'sha256')
  return uploadResponse(202, session, registry)
}

/** A blob that can't be mounted is no error: the client goes on with the upload that was begun instead. */
async function mountBlob(
  { storage, quota, anonymousMount }: UploadEndpoints,
  repository: string,
  text: string,
  from: string | null,
  access: Access,
): Promise<boolean> {
  if (!isDigest(text) || !isVerifiable(text)) return false
  if (from === null ? !anonymousMount : !isRepository(from) || !(await access.pull(from))) return false
  const known = !quota.limited || (await storage.has(repository, text))
  const mounted = await storage.mountBlob(repository, text, from ?? undefined)
  if (mounted && !known) await checkMounted(storage, quota, repository, text)
  return mounted
}

/** Only when it is there it is known how large it is. */
async function checkMounted(storage: RegistryStorage, quota: Quota, repository: string, digest: Digest): Promise<void> {
  try {
    await quota.hold(repository, 0)
  } catch (error) {
    await storage.deleteBlob(repository, digest)
    throw error
  }
}

async function pushBlob(
  { sessions }: UploadEndpoints,
  repository: string,
  request: Request,
  text: string,
): Promise<Response> {
  const digest = contentDigest(text)
  const { id } = await sessions.create(repository, digest.slice(0, digest.indexOf(':')))
  try {
    await sessions.finish(repository, id, request.body, { length: contentLength(request) }, digest)
  } catch (error) {
    // The client never learns of the session, so nobody could go on with it.
    await sessions.cancel(repository, id).catch(() => {})
    throw error
  }
  return blobCreated(repository, digest)
}

/** PATCH: takes a chunk, or a stream of unknown length (end-5). */
export async function patchUpload(
  registry: UploadEndpoints,
  repository: string,
  id: string,
  request: Request,
): Promise<Response> {
  const session = await registry.sessions.append(repository, id, request.body, chunkOf(request))
  return uploadResponse(202, session, registry)
}

/** PUT: takes the last chunk, if there is one, and ends the upload (end-6). */
export async function finishUpload(
  { sessions }: UploadEndpoints,
  repository: string,
  id: string,
  request: Request,
  query: URLSearchParams,
): Promise<Response> {
  const digest = contentDigest(query.get('digest') ?? '')
  await sessions.finish(repository, id, request.body, chunkOf(request), digest)
  return blobCreated(repository, digest)
}

/** GET: how much arrived (end-13). */
export async function uploadStatus(registry: UploadEndpoints, repository: string, id: string): Promise<Response> {
  return uploadResponse(204, await registry.sessions.find(repository, id), registry)
}

/** DELETE: ends the upload and throws away what arrived (end-14). */
export async function cancelUpload({ sessions }: UploadEndpoints, repository: string, id: string): Promise<Response> {
  await sessions.cancel(repository, id)
  return new Response(null, { status: 204 })
}

function chunkOf(request: Request): Chunk {
  const length = contentLength(request)
  const header = request.headers.get('content-range')
  if (header === null) return { length }
  const range = parseContentRange(header)
  if (range === undefined) {
    throw new Fault('BLOB_UPLOAD_INVALID', 'Content-Range must have the form <first>-<last>')
  }
  const size = range.end - range.start
  if (length !== undefined && length !== size) {
    throw new Fault('SIZE_INVALID', 'Content-Range and Content-Length contradict each other')
  }
  return { start: range.start, length: size }
}

function uploadResponse(status: number, session: UploadSession, { chunkMinLength }: UploadEndpoints): Response {
  const headers = new Headers({
    Location: `/v2/${session.repository}/blobs/uploads/${session.id}`,
    Range: uploadRange(session),
    'Docker-Upload-UUID': session.id,
  })
  if (status !== 204) headers.set('Content-Length', '0')
  if (chunkMinLength > 0) headers.set('OCI-Chunk-Min-Length', String(chunkMinLength))
  return new Response(null, { status, headers })
}

function blobCreated(repository: string, digest: string): Response {
  return new Response(null, {
    status: 201,
    headers: {
      Location: `/v2/${repository}/blobs/${digest}`,
      'Docker-Content-Digest': digest,
      'Content-Length': '0',
    },
  })
}
