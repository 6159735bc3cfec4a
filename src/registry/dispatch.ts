import type { Access } from './auth/guard.ts'
import { deleteBlob, getBlob } from './blobs.ts'
import { Fault, jsonResponse } from './fault.ts'
import { listReferrers, listRepositories, listTags } from './listings.ts'
import { deleteManifest, getManifest, type ManifestEndpoints, putManifest } from './manifests.ts'
import type { Route } from './route.ts'
import { beginUpload, cancelUpload, finishUpload, patchUpload, type UploadEndpoints, uploadStatus } from './uploads.ts'

export type Endpoints = UploadEndpoints & ManifestEndpoints

/** Gives a request to the endpoint it is for. @throws Fault for a method that the endpoint does not have. */
export async function dispatch(
  endpoints: Endpoints,
  route: Route,
  request: Request,
  access: Access,
): Promise<Response> {
  const response = endpoint(endpoints, route, request, new URL(request.url).searchParams, access)
  if (response !== undefined) return response
  throw new Fault('UNSUPPORTED', `${request.method} is not possible here`, { headers: { Allow: allowed[route.kind] } })
}

/** Refuses what would change something. @throws Fault */
export function assertReads(route: Route, request: Request): void {
  if (request.method === 'GET' || request.method === 'HEAD') return
  const allow = allowed[route.kind].split(', ').filter((method) => method === 'GET' || method === 'HEAD')
  throw new Fault('UNSUPPORTED', 'this registry is read-only', { headers: { Allow: allow.join(', ') } })
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

function endpoint(
  endpoints: Endpoints,
  route: Route,
  request: Request,
  query: URLSearchParams,
  access: Access,
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
      return method === 'POST' ? beginUpload(endpoints, route.repository, request, query, access) : undefined
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
