/**
 * An embedded registry: a server by distribution-spec, for tests, for a team, as a cache.
 *
 * ```ts
 * await using registry = await createRegistryServer()
 * await push(image, `${registry.host}/app:1`)
 * ```
 *
 * @packageDocumentation
 */

export type {
  AccessGrant,
  AccessRequest,
  Authenticator,
  Authorize,
  AuthProblem,
  Identity,
  RegistryAction,
  VerifyPassword,
} from './auth/access.ts'
export { type BasicAuthOptions, basicAuth } from './auth/basic.ts'
export { type BearerAuthOptions, bearerAuth } from './auth/bearer.ts'
export {
  type JsonWebKey,
  type JsonWebKeySet,
  type JwtVerifierOptions,
  jwtVerifier,
  type VerifyToken,
} from './auth/jwt.ts'
export { type TokenAuthOptions, tokenAuth } from './auth/token.ts'
export { cacheStorage } from './cache/cache-storage.ts'
export type { CacheStorageOptions } from './cache/options.ts'
export type { Upstream } from './cache/upstream.ts'
export {
  type ContentStorageOptions,
  contentStorage,
  type ExposedName,
  type ListedContent,
  type NamedContent,
} from './content-storage.ts'
export { diskStorage } from './disk-storage.ts'
export type { GarbageFailure, GarbageItem, GarbageOptions, GarbageReport } from './garbage.ts'
export { createRegistryHandler, type RegistryHandler, type RegistryHandlerOptions } from './handler.ts'
export { type MemoryStorageOptions, memoryStorage } from './memory-storage.ts'
export type { RegistryQuota } from './quota.ts'
export { createRegistryServer, type RegistryServer, type RegistryServerOptions, type RegistryTls } from './server.ts'
export type {
  Referrer,
  RegistryStorage,
  StorageMaintenance,
  StoredBlob,
  StoredEntry,
  StoredManifest,
  StoredUpload,
} from './storage.ts'
export type { Warnings } from './warnings.ts'
