import { InvalidArgumentError, LimitError } from '../errors.ts'
import { type Bytes, type Duration, toBytes, toMilliseconds } from '../internal/units.ts'
import { deleteBlob, getBlob } from './blobs.ts'
import { Fault, faultResponse, jsonResponse } from './fault.ts'
import { listReferrers, listRepositories, listTags } from './listings.ts'
import { deleteManifest, getManifest, type ManifestEndpoints, putManifest } from './manifests.ts'
import { RepositoryLocks } from './repository-locks.ts'
import { parseRoute, type Route } from './route.ts'
import type { RegistryStorage } from './storage.ts'
import { UploadSessions } from './upload-sessions.ts'
import { beginUpload, cancelUpload, finishUpload, patchUpload, type UploadEndpoints, uploadStatus } from './uploads.ts'

/** Answers one HTTP request. Never rejects. */
export type RegistryHandler = (request: Request) => Promise<Response>

/** What a registry is made of, and its bounds. */
export interface RegistryHandlerOptions {
  /** Where the content is kept: `memoryStorage()`, `diskStorage(directory)`, or your own. */
  readonly storage: RegistryStorage
  /** Largest manifest that is taken; default 4 MiB, what the specification asks for at least. */
  readonly maxManifestSize?: Bytes | undefined
  /** Largest blob that is taken; default 64 GiB. */
  readonly maxBlobSize?: Bytes | undefined
  /** Uploads under way at a time; default 1000. Further ones are answered with 429. */
  readonly maxUploads?: number | undefined
  /** How long an upload that nobody writes to is kept, so that a client can take it up again; default one hour. */
  readonly uploadTimeout?: Duration | undefined
  /** Smallest chunk that clients should send, announced as `OCI-Chunk-Min-Length`; default none. */
  readonly chunkMinLength?: Bytes | undefined
  /**
   * Whether a blob may be mounted without naming the repository it comes from; default true. Whoever
   * knows the digest of a blob can read it then: turn it off where repositories must not see each other's.
   */
  readonly anonymousMount?: boolean | undefined
  /** Called with what went wrong when a request is answered with a 5xx status, or no connection could be accepted. */
  readonly onError?: ((error: unknown, request?: Request) => void) | undefined
}

type Endpoints = UploadEndpoints & ManifestEndpoints

/**
 * A registry by distribution-spec 1.1 as a fetch-style function: for `createRegistryServer`, or for a
 * server you have already.
 * @throws InvalidArgumentError
 */
export function createRegistryHandler(options: RegistryHandlerOptions): RegistryHandler {
  const { storage, maxUploads = 1000 } = options
  if (!Number.isSafeInteger(maxUploads) || maxUploads < 1) {
    throw new InvalidArgumentError('maxUploads must be a positive integer', { subject: 'maxUploads' })
  }
  const endpoints: Endpoints = {
    storage,
    locks: new RepositoryLocks(),
    sessions: new UploadSessions(storage, {
      sessions: maxUploads,
      idle: toMilliseconds(options.uploadTimeout ?? '1h', 'uploadTimeout'),
      blob: toBytes(options.maxBlobSize ?? '64g', 'maxBlobSize'),
    }),
    maxManifestSize: toBytes(options.maxManifestSize ?? '4m', 'maxManifestSize'),
    chunkMinLength: toBytes(options.chunkMinLength ?? 0, 'chunkMinLength'),
    anonymousMount: options.anonymousMount ?? true,
  }
  return async (request) => {
    const response = await answer(endpoints, request).catch((error: unknown) => failure(error, request, options))
    response.headers.set('Docker-Distribution-Api-Version', 'registry/2.0')
    if (request.method !== 'HEAD' || response.body === null) return response
    return new Response(null, { status: response.status, headers: response.headers })
  }
}

async function answer(endpoints: Endpoints, request: Request): Promise<Response> {
  const { pathname, searchParams } = new URL(request.url)
  const route = parseRoute(pathname)
  const response = dispatch(endpoints, route, request, searchParams)
  if (response !== undefined) return response
  throw new Fault('UNSUPPORTED', `${request.method} is not possible here`, { headers: { Allow: allowed[route.kind] } })
}

const allowed: Readonly<Record<Route['kind'], string>> = {
  base: 'GET, HEAD',
  catalog: 'GET',
  blob: 'GET, HEAD, DELETE',
  uploads: 'POST',
  upload: 'GET, PATCH, PUT, DELETE',
  manifest: 'GET, HEAD, PUT, DELETE',
  tags: 'GET',
  referrers: 'GET',
}

function dispatch(
  endpoints: Endpoints,
  route: Route,
  request: Request,
  query: URLSearchParams,
): Promise<Response> | undefined {
  const { storage } = endpoints
  const { method } = request
  const reads = method === 'GET' || method === 'HEAD'
  switch (route.kind) {
    case 'base':
      return reads ? Promise.resolve(jsonResponse({}, 200)) : undefined
    case 'catalog':
      return method === 'GET' ? listRepositories(storage, query) : undefined
    case 'tags':
      return method === 'GET' ? listTags(storage, route.repository, query) : undefined
    case 'referrers':
      return method === 'GET' ? listReferrers(storage, route.repository, route.digest, query) : undefined
    case 'uploads':
      return method === 'POST' ? beginUpload(endpoints, route.repository, request, query) : undefined
    case 'upload':
      return uploadEndpoint(endpoints, route.repository, route.id, request, query)
    case 'manifest': {
      if (reads) return getManifest(endpoints, route.repository, route.reference, request)
      if (method === 'PUT') return putManifest(endpoints, route.repository, route.reference, request, query)
      if (method === 'DELETE') return deleteManifest(endpoints, route.repository, route.reference, request)
      return undefined
    }
    case 'blob': {
      if (reads) return getBlob(storage, route.repository, route.digest, request)
      if (method === 'DELETE') return deleteBlob(endpoints, route.repository, route.digest)
      return undefined
    }
  }
}

function uploadEndpoint(
  endpoints: Endpoints,
  repository: string,
  id: string,
  request: Request,
  query: URLSearchParams,
): Promise<Response> | undefined {
  if (request.method === 'GET') return uploadStatus(endpoints, repository, id)
  if (request.method === 'PATCH') return patchUpload(endpoints, repository, id, request)
  if (request.method === 'PUT') return finishUpload(endpoints, repository, id, request, query)
  if (request.method === 'DELETE') return cancelUpload(endpoints, repository, id)
  return undefined
}

/** What a request gets that failed: the client's fault, no room left, or ours. */
function failure(error: unknown, request: Request, { onError }: RegistryHandlerOptions): Response {
  if (error instanceof Fault) return faultResponse(error)
  onError?.(error, request)
  const full = error instanceof LimitError || (error instanceof Error && 'code' in error && isNoSpace(error.code))
  if (full) return faultResponse(new Fault('DENIED', 'there is no room left', { status: 507, cause: error }))
  return faultResponse(new Fault('UNSUPPORTED', 'internal error', { status: 500, cause: error }))
}

function isNoSpace(code: unknown): boolean {
  return code === 'ENOSPC' || code === 'EDQUOT'
}
