import { ConflictError, InvalidArgumentError, LimitError } from '../errors.ts'
import { type Bytes, type Duration, toBytes, toMilliseconds } from '../internal/units.ts'
import type { Authenticator, Authorize } from './auth/access.ts'
import { Guard } from './auth/guard.ts'
import { assertReads, dispatch, type Endpoints } from './dispatch.ts'
import { Fault, faultResponse } from './fault.ts'
import { collectGarbage, type GarbageOptions, type GarbageReport } from './garbage.ts'
import { Quota, type RegistryQuota } from './quota.ts'
import { RepositoryLocks } from './repository-locks.ts'
import { parseRoute } from './route.ts'
import type { RegistryStorage } from './storage.ts'
import { TrackedStorage } from './tracked-storage.ts'
import { UploadSessions } from './upload-sessions.ts'
import { addWarnings, type Warnings } from './warnings.ts'

/** Answers HTTP requests. */
export interface RegistryHandler {
  /** Answers one HTTP request. Never rejects. */
  (request: Request): Promise<Response>
  /**
   * Removes what nobody needs any more; requests may go on meanwhile. One collection at a time.
   * @throws UnsupportedError when the storage can't be listed, ConflictError while another one is running,
   * InvalidArgumentError, or the signal's reason.
   */
  collectGarbage(options?: GarbageOptions): Promise<GarbageReport>
}

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
   * Whether a blob may be mounted without naming the repository it comes from. Whoever knows the digest
   * of a blob can read it then, so the default is true only where nobody is asked who they are.
   */
  readonly anonymousMount?: boolean | undefined
  /** Who sends a request: `basicAuth`, `bearerAuth`, `tokenAuth`, or your own. Default: nobody is asked. */
  readonly auth?: Authenticator | undefined
  /**
   * Decides about every request whether its user may do it; asked also about those who have not said
   * who they are. Default: everybody may do everything, and where there is `auth`, every user.
   */
  readonly authorize?: Authorize | undefined
  /** Whether pushes and deletions are refused, with 405; a function is asked each time. Default false. */
  readonly readOnly?: boolean | (() => boolean) | undefined
  /** How much is taken; what goes beyond is answered with 403 and DENIED. Default unlimited. */
  readonly quota?: RegistryQuota | undefined
  /**
   * Whether manifests are taken whose content, or part of it, is not in the repository: indexes of
   * which only some platforms are kept. Default false.
   */
  readonly sparseManifests?: boolean | undefined
  /** Texts for users, sent as `Warning` headers with the response to what they did. Default none. */
  readonly warnings?: Warnings | undefined
  /** Called with what went wrong when a request is answered with a 5xx status, or no connection could be accepted. */
  readonly onError?: ((error: unknown, request?: Request) => void) | undefined
}

/**
 * A registry by distribution-spec 1.1 as a fetch-style function: for `createRegistryServer`, or for a
 * server you have already.
 * @throws InvalidArgumentError
 */
export function createRegistryHandler(options: RegistryHandlerOptions): RegistryHandler {
  const { maxUploads = 1000, auth, authorize } = options
  if (!Number.isSafeInteger(maxUploads) || maxUploads < 1) {
    throw new InvalidArgumentError('maxUploads must be a positive integer', { subject: 'maxUploads' })
  }
  const storage = new TrackedStorage(options.storage)
  const quota = new Quota(storage, options.quota)
  const limits = {
    sessions: maxUploads,
    idle: toMilliseconds(options.uploadTimeout ?? '1h', 'uploadTimeout'),
    blob: toBytes(options.maxBlobSize ?? '64g', 'maxBlobSize'),
  }
  const endpoints: Endpoints = {
    storage,
    quota,
    locks: new RepositoryLocks(),
    sessions: new UploadSessions(storage, limits, quota),
    maxManifestSize: toBytes(options.maxManifestSize ?? '4m', 'maxManifestSize'),
    sparseManifests: options.sparseManifests ?? false,
    chunkMinLength: toBytes(options.chunkMinLength ?? 0, 'chunkMinLength'),
    anonymousMount: options.anonymousMount ?? (auth === undefined && authorize === undefined),
  }
  const guard = new Guard(auth, authorize)
  let collecting = false
  const handler = async (request: Request): Promise<Response> => {
    const response = await answer(endpoints, guard, request, options).catch((error: unknown) =>
      failure(error, request, options),
    )
    response.headers.set('Docker-Distribution-Api-Version', 'registry/2.0')
    if (request.method !== 'HEAD' || response.body === null) return response
    return new Response(null, { status: response.status, headers: response.headers })
  }
  return Object.assign(handler, {
    async collectGarbage(what?: GarbageOptions): Promise<GarbageReport> {
      if (collecting) throw new ConflictError('registry', 'a garbage collection is running')
      collecting = true
      try {
        return await collectGarbage(storage, endpoints.locks, what)
      } finally {
        collecting = false
      }
    },
  })
}

async function answer(
  endpoints: Endpoints,
  guard: Guard,
  request: Request,
  options: RegistryHandlerOptions,
): Promise<Response> {
  const own = guard.respond(request)
  if (own !== undefined) return own
  const route = parseRoute(new URL(request.url).pathname)
  const access = await guard.admit(route, request)
  const { readOnly } = options
  if (options.storage.readOnly || (typeof readOnly === 'function' ? readOnly() : readOnly)) assertReads(route, request)
  const response = await dispatch(endpoints, route, request, access)
  await addWarnings(response, options.warnings, guard.describe(route, request, access))
  return response
}

/** What a request gets that failed: the client's fault, no room left, or ours. */
function failure(error: unknown, request: Request, { onError }: RegistryHandlerOptions): Response {
  if (error instanceof Fault && error.status < 500) return faultResponse(error)
  onError?.(error, request)
  if (error instanceof Fault) return faultResponse(error)
  const full = error instanceof LimitError || (error instanceof Error && 'code' in error && isNoSpace(error.code))
  if (full) return faultResponse(new Fault('DENIED', 'there is no room left', { status: 507, cause: error }))
  return faultResponse(new Fault('UNSUPPORTED', 'internal error', { status: 500, cause: error }))
}

function isNoSpace(code: unknown): boolean {
  return code === 'ENOSPC' || code === 'EDQUOT'
}
