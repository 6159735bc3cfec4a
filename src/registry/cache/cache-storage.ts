import { readAll } from '../../content/verify.ts'
import { InvalidArgumentError, NotFoundError } from '../../errors.ts'
import type { Descriptor } from '../../image/descriptor.ts'
import { type Digest, isVerifiable } from '../../image/digest.ts'
import { toBytes, toMilliseconds } from '../../internal/units.ts'
import { Fault } from '../fault.ts'
import { parsePushedManifest } from '../manifest-content.ts'
import { isTag } from '../names.ts'
import { ReadOnlyStorage } from '../read-only-storage.ts'
import type { RegistryStorage, StorageMaintenance, StoredBlob, StoredManifest } from '../storage.ts'
import { Downloads } from './downloads.ts'
import { Eviction } from './eviction.ts'
import { KnownContent } from './known-content.ts'
import type { CacheStorageOptions } from './options.ts'
import type { Upstream } from './upstream.ts'

/** Tags of which it is remembered when they were looked up, and names that one answer of the other registry may have. */
const maxNames = 100_000

/**
 * A storage that fetches what it does not have from another registry, and keeps it: a pull-through
 * cache. Clients can't push to it. Everything is verified before it is kept; a blob is passed on while
 * it arrives, its last byte when it has been verified. Clients that want the same blob share one download,
 * which goes on when they leave.
 * @throws InvalidArgumentError
 */
export function cacheStorage(options: CacheStorageOptions): RegistryStorage {
  return new CacheStorage(options)
}

class CacheStorage extends ReadOnlyStorage implements RegistryStorage {
  readonly maintenance: StorageMaintenance | undefined
  readonly #options: CacheStorageOptions
  readonly #storage: RegistryStorage
  readonly #tagLifetime: number
  readonly #maxManifestSize: number
  readonly #maxBlobSize: number
  readonly #downloads: Downloads
  readonly #eviction: Eviction | undefined
  readonly #known: KnownContent
  /** When tags were looked up. */
  readonly #checked = new Map<string, number>()
  /** Lookups that are under way. */
  readonly #lookups = new Map<string, Promise<Digest | undefined>>()

  constructor(options: CacheStorageOptions) {
    super()
    const { storage, maxDownloads = 64, signal } = options
    if (!Number.isSafeInteger(maxDownloads) || maxDownloads < 1) {
      throw new InvalidArgumentError('maxDownloads must be a positive integer', { subject: 'maxDownloads' })
    }
    this.#options = options
    this.#storage = storage
    this.maintenance = storage.maintenance
    this.#tagLifetime = toMilliseconds(options.tagLifetime ?? '1m', 'tagLifetime')
    this.#maxManifestSize = toBytes(options.maxManifestSize ?? '4m', 'maxManifestSize')
    this.#maxBlobSize = toBytes(options.maxBlobSize ?? '64g', 'maxBlobSize')
    this.#known = new KnownContent(storage)
    if (options.maxSize !== undefined) {
      const limit = toBytes(options.maxSize, 'maxSize')
      if (storage.maintenance === undefined) {
        throw new InvalidArgumentError('this storage can not be measured, so it can have no maxSize', {
          subject: 'maxSize',
        })
      }
      this.#eviction = new Eviction(storage, storage.maintenance, limit)
    }
    const onEnd = (_repository: string, error: unknown): void => {
      if (error !== undefined) options.onError?.(error)
      this.#eviction?.run().catch((failed: unknown) => options.onError?.(failed))
    }
    this.#downloads = new Downloads({ storage, max: maxDownloads, signal, onEnd })
  }

  async getTag(repository: string, tag: string): Promise<Digest | undefined> {
    const key = `${repository}:${tag}`
    const known = await this.#storage.getTag(repository, tag)
    if (known !== undefined && Date.now() - (this.#checked.get(key) ?? 0) < this.#tagLifetime) return known
    let lookup = this.#lookups.get(key)
    if (lookup === undefined) {
      lookup = this.#lookUp(repository, tag, known).finally(() => this.#lookups.delete(key))
      this.#lookups.set(key, lookup)
    }
    return lookup
  }

  async #lookUp(repository: string, tag: string, known: Digest | undefined): Promise<Digest | undefined> {
    const upstream = this.#options.upstream(repository)
    if (upstream === undefined) return undefined
    const { signal, staleIfError = true } = this.#options
    try {
      const descriptor = await upstream.resolve(tag, { signal })
      if ((await this.#storage.getManifest(repository, descriptor.digest)) === undefined) {
        await this.#fetchManifest(repository, descriptor, upstream)
      }
      if (descriptor.digest !== known) await this.#storage.putTag(repository, tag, descriptor.digest)
      this.#note(`${repository}:${tag}`)
      return descriptor.digest
    } catch (error) {
      if (error instanceof NotFoundError) {
        if (known !== undefined) await this.#storage.deleteTag(repository, tag)
        return undefined
      }
      if (known === undefined || !staleIfError) throw failure(error)
      this.#options.onError?.(error)
      return known
    }
  }

  async getManifest(repository: string, digest: Digest): Promise<StoredManifest | undefined> {
    const known = await this.#storage.getManifest(repository, digest)
    const upstream = known === undefined ? this.#options.upstream(repository) : undefined
    if (upstream === undefined) return known
    try {
      const descriptor = await upstream.resolve(digest, { signal: this.#options.signal })
      return await this.#fetchManifest(repository, { ...descriptor, digest }, upstream)
    } catch (error) {
      if (error instanceof NotFoundError) return undefined
      throw failure(error)
    }
  }

  async openBlob(repository: string, digest: Digest): Promise<StoredBlob | undefined> {
    this.#eviction?.used(repository, digest)
    const known = await this.#storage.openBlob(repository, digest)
    const upstream = known === undefined ? this.#options.upstream(repository) : undefined
    if (upstream === undefined) return known
    // How large it must be, its manifest says.
    const descriptor = await this.#known.find(repository, digest)
    if (descriptor === undefined) return undefined
    try {
      if (descriptor.size > this.#maxBlobSize) throw new Fault('DENIED', 'the blob is too large to be fetched')
      return await this.#downloads.open(repository, descriptor, upstream)
    } catch (error) {
      throw failure(error)
    }
  }

  async #fetchManifest(repository: string, descriptor: Descriptor, upstream: Upstream): Promise<StoredManifest> {
    const { digest, mediaType } = descriptor
    if (!isVerifiable(digest)) throw new NotFoundError(digest)
    const raw = await readAll(upstream, descriptor, this.#maxManifestSize, { signal: this.#options.signal })
    const parsed = parsePushedManifest(raw, digest, mediaType)
    const manifest = { mediaType: parsed.mediaType, raw }
    await this.#storage.putManifest(repository, digest, manifest, parsed.referrer)
    this.#known.add(repository, parsed.content)
    return manifest
  }

  /** Also those that nobody asked for yet, where the other registry lists them. */
  async listTags(repository: string): Promise<readonly string[] | undefined> {
    const list = this.#options.upstream(repository)
    if (list?.tags === undefined) return this.#storage.listTags(repository)
    try {
      const tags: string[] = []
      for await (const tag of list.tags({ signal: this.#options.signal })) {
        if (isTag(tag)) tags.push(tag)
        if (tags.length >= maxNames) break
      }
      return tags
    } catch (error) {
      if (error instanceof NotFoundError) return undefined
      this.#options.onError?.(error)
      return this.#storage.listTags(repository)
    }
  }

  async *referrers(repository: string, subject: Digest, after: string): AsyncGenerator<Descriptor> {
    const found =
      (await this.#upstreamReferrers(repository, subject)) ?? this.#storage.referrers(repository, subject, '')
    const sorted: Descriptor[] = []
    for await (const descriptor of found) if (descriptor.digest > after) sorted.push(descriptor)
    yield* sorted.sort((a, b) => (a.digest < b.digest ? -1 : 1))
  }

  async #upstreamReferrers(repository: string, subject: Digest): Promise<readonly Descriptor[] | undefined> {
    const upstream = this.#options.upstream(repository)
    if (upstream?.referrers === undefined) return undefined
    const { signal } = this.#options
    try {
      const found: Descriptor[] = []
      for await (const descriptor of upstream.referrers(await upstream.resolve(subject, { signal }), { signal })) {
        found.push(descriptor)
        if (found.length >= maxNames) break
      }
      return found
    } catch (error) {
      if (!(error instanceof NotFoundError)) this.#options.onError?.(error)
      return undefined
    }
  }

  has(repository: string, digest: Digest): Promise<boolean> {
    return this.#storage.has(repository, digest)
  }

  listRepositories(): Promise<readonly string[]> {
    return this.#storage.listRepositories()
  }

  override removeStaleUploads(idleMs: number, live: ReadonlySet<string>): Promise<void> {
    return this.#storage.removeStaleUploads(idleMs, live)
  }

  // These are for the garbage collection.
  override deleteBlob(repository: string, digest: Digest): Promise<boolean> {
    return this.#storage.deleteBlob(repository, digest)
  }

  override deleteManifest(repository: string, digest: Digest): Promise<boolean> {
    return this.#storage.deleteManifest(repository, digest)
  }

  override deleteTag(repository: string, tag: string): Promise<boolean> {
    return this.#storage.deleteTag(repository, tag)
  }

  #note(key: string): void {
    this.#checked.delete(key)
    this.#checked.set(key, Date.now())
    const [oldest] = this.#checked.keys()
    if (this.#checked.size > maxNames && oldest !== undefined) this.#checked.delete(oldest)
  }
}

/** What the other registry did wrong is not our client's fault, nor ours. */
function failure(error: unknown): Fault {
  if (error instanceof Fault) return error
  return new Fault('UNSUPPORTED', 'the registry behind this cache gave no good answer', { status: 502, cause: error })
}
