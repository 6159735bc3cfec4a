import type { Bytes, Duration } from '../../internal/units.ts'
import type { RegistryStorage } from '../storage.ts'
import type { Upstream } from './upstream.ts'

/** What a cache stands in front of, and where it keeps what it fetched. */
export interface CacheStorageOptions {
  /** The repository of the other registry for a repository of the cache; undefined where there is none. */
  readonly upstream: (repository: string) => Upstream | undefined
  /** Where fetched content is kept: `diskStorage(directory)` or `memoryStorage()`, for nothing else. */
  readonly storage: RegistryStorage
  /** How long a tag is taken for right before it is looked up again; default one minute. */
  readonly tagLifetime?: Duration | undefined
  /** Whether a tag is served as it was when it can't be looked up; default true. */
  readonly staleIfError?: boolean | undefined
  /** Bytes of fetched content at which the blobs go that were not used for the longest time; default unlimited. */
  readonly maxSize?: Bytes | undefined
  /** Largest manifest that is fetched; default 4 MiB. */
  readonly maxManifestSize?: Bytes | undefined
  /** Largest blob that is fetched; default 64 GiB. */
  readonly maxBlobSize?: Bytes | undefined
  /** Blobs that are fetched at a time; default 64. Requests for further ones are answered with 429. */
  readonly maxDownloads?: number | undefined
  /** Called with what went wrong where the client does not see it: a stale tag was served, a download broke off. */
  readonly onError?: ((error: unknown) => void) | undefined
  /** Aborting ends all downloads. */
  readonly signal?: AbortSignal | undefined
}
