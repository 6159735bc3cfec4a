import { UnsupportedError } from '../errors.ts'
import { createDigester, type Digest, digestAlgorithm } from '../image/digest.ts'
import { parseManifestOrIndex, successors } from '../image/manifest.ts'
import { type Duration, toMilliseconds } from '../internal/units.ts'
import type { RepositoryLocks } from './repository-locks.ts'
import type { StorageMaintenance, StoredEntry } from './storage.ts'
import type { TrackedStorage } from './tracked-storage.ts'

/** What is garbage. */
export interface GarbageOptions {
  /**
   * Content pushed, mounted or asked for within this time stays: its manifest may be on its way. Default
   * one day; shorter than a push may take is not safe.
   */
  readonly minAge?: Duration | undefined
  /**
   * Whether manifests go that no tag leads to: neither by a tag of their own, nor as a part of an index,
   * nor as a referrer of a manifest that stays. Default false: only blobs that no manifest names go.
   */
  readonly untagged?: boolean | undefined
  /** Whether every blob is read, and those go whose content is not what their digest says. Default false. */
  readonly verify?: boolean | undefined
  /** Whether to find only, and remove nothing; default false. */
  readonly dryRun?: boolean | undefined
  /** Aborting ends the collection between two removals. */
  readonly signal?: AbortSignal | undefined
}

/** What a collection removed, or would remove. */
export interface GarbageReport {
  readonly dryRun: boolean
  /** Repositories that were looked at. */
  readonly repositories: number
  readonly removed: readonly GarbageItem[]
  /** Bytes of what was removed. Space is given back when no other repository has the same content. */
  readonly bytes: number
  /** Repositories that could not be looked at to the end, such as for a manifest that can't be read. */
  readonly failed: readonly GarbageFailure[]
}

/** A repository whose collection failed; what it had not removed by then stays. */
export interface GarbageFailure {
  readonly repository: string
  readonly error: unknown
}

/** Something that was removed. */
export interface GarbageItem {
  readonly kind: 'blob' | 'manifest'
  /** Undefined for content that no repository had. */
  readonly repository: string | undefined
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
  /** Why: nothing names it, or its content is not what its digest says. */
  readonly reason: 'unreferenced' | 'corrupt'
}

/**
 * Removes what nobody needs any more. Pushes may go on: one repository after another is locked against
 * changes of its manifests while it is looked at, and content that is new stays.
 * @throws UnsupportedError when the storage can't be listed, InvalidArgumentError, or the signal's reason.
 */
export async function collectGarbage(
  storage: TrackedStorage,
  locks: RepositoryLocks,
  options: GarbageOptions = {},
): Promise<GarbageReport> {
  const before = Date.now() - toMilliseconds(options.minAge ?? '24h', 'minAge')
  const { maintenance } = storage
  if (maintenance === undefined) throw new UnsupportedError('garbage collection', 'this storage can not be listed')
  const { dryRun = false, signal } = options
  const removed: GarbageItem[] = []
  const failed: GarbageFailure[] = []
  const names = await storage.listRepositories()
  for (const repository of names) {
    signal?.throwIfAborted()
    const collection = new Collection(storage, maintenance, repository, before, options, removed)
    try {
      await locks.run(repository, () => collection.run())
    } catch (error) {
      signal?.throwIfAborted()
      failed.push({ repository, error })
    }
  }
  for (const { digest, size } of await maintenance.removeUnreferenced(before, dryRun)) {
    removed.push({ kind: 'blob', repository: undefined, digest, size, reason: 'unreferenced' })
  }
  const bytes = removed.reduce((sum, { size }) => sum + size, 0)
  return { dryRun, repositories: names.length, removed, bytes, failed }
}

/** The collection in one repository. */
class Collection {
  readonly #storage: TrackedStorage
  readonly #maintenance: StorageMaintenance
  readonly #repository: string
  readonly #before: number
  readonly #options: GarbageOptions
  readonly #removed: GarbageItem[]

  constructor(
    storage: TrackedStorage,
    maintenance: StorageMaintenance,
    repository: string,
    before: number,
    options: GarbageOptions,
    removed: GarbageItem[],
  ) {
    this.#storage = storage
    this.#maintenance = maintenance
    this.#repository = repository
    this.#before = before
    this.#options = options
    this.#removed = removed
  }

  async run(): Promise<void> {
    const manifests = new Map<Digest, StoredEntry>()
    for await (const entry of this.#maintenance.manifests(this.#repository)) manifests.set(entry.digest, entry)
    const kept = new Set<Digest>()
    await this.#mark(manifests, await this.#roots(manifests), kept)
    await this.#sweepManifests(manifests, kept)
    for await (const entry of this.#maintenance.blobs(this.#repository)) {
      this.#options.signal?.throwIfAborted()
      const { digest, changed } = entry
      if (!kept.has(digest) && changed < this.#before) await this.#removeBlob(entry, 'unreferenced')
      else if (this.#options.verify && !(await this.#isIntact(digest))) await this.#removeBlob(entry, 'corrupt')
    }
  }

  /** Removes the manifests that are not kept, all or none at a time: one that stays needs its parts. */
  async #sweepManifests(manifests: ReadonlyMap<Digest, StoredEntry>, kept: Set<Digest>): Promise<void> {
    for (;;) {
      const garbage = [...manifests.values()].filter(({ digest }) => !kept.has(digest))
      const digests = garbage.map(({ digest }) => digest)
      const remove = async (): Promise<void> => {
        for (const entry of garbage) {
          if (!this.#options.dryRun) await this.#storage.deleteManifest(this.#repository, entry.digest)
          this.#note('manifest', entry, 'unreferenced')
        }
      }
      if (await this.#storage.removing(this.#repository, digests, this.#before, remove)) return
      const said = digests.filter((digest) => this.#storage.wasSaid(this.#repository, digest, this.#before))
      await this.#mark(manifests, said, kept)
    }
  }

  /** Everything that stays because something leads to it: manifests, and the content they name. */
  async #mark(manifests: ReadonlyMap<Digest, StoredEntry>, roots: readonly Digest[], kept: Set<Digest>): Promise<void> {
    const waiting = [...roots]
    for (let digest = waiting.pop(); digest !== undefined; digest = waiting.pop()) {
      if (kept.has(digest)) continue
      kept.add(digest)
      if (!manifests.has(digest)) continue
      this.#options.signal?.throwIfAborted()
      const manifest = await this.#storage.peekManifest(this.#repository, digest)
      if (manifest === undefined) continue
      const parsed = parseManifestOrIndex(manifest.raw, manifest.mediaType)
      for (const { digest: next } of successors(parsed)) waiting.push(next)
      for await (const referrer of this.#storage.referrers(this.#repository, digest, '')) waiting.push(referrer.digest)
    }
  }

  async #roots(manifests: ReadonlyMap<Digest, StoredEntry>): Promise<Digest[]> {
    if (!this.#options.untagged) return [...manifests.keys()]
    const roots: Digest[] = []
    for (const tag of (await this.#storage.listTags(this.#repository)) ?? []) {
      const digest = await this.#storage.getTag(this.#repository, tag)
      if (digest !== undefined) roots.push(digest)
    }
    for (const { digest, changed } of manifests.values()) {
      if (changed >= this.#before || this.#storage.wasSaid(this.#repository, digest, this.#before)) roots.push(digest)
    }
    return roots
  }

  async #isIntact(digest: Digest): Promise<boolean> {
    const blob = await this.#storage.peekBlob(this.#repository, digest)
    // It is gone, which is no fault.
    if (blob === undefined) return true
    const digester = createDigester(digestAlgorithm(digest))
    const reader = blob.read(0, blob.size).getReader()
    for (let next = await reader.read(); !next.done; next = await reader.read()) digester.update(next.value)
    return digester.digest() === digest
  }

  async #removeBlob(entry: StoredEntry, reason: GarbageItem['reason']): Promise<void> {
    // What is corrupt is of no use to those who heard of it.
    const before = reason === 'corrupt' ? Number.POSITIVE_INFINITY : this.#before
    await this.#storage.removing(this.#repository, [entry.digest], before, async () => {
      if (!this.#options.dryRun) await this.#storage.deleteBlob(this.#repository, entry.digest)
      this.#note('blob', entry, reason)
    })
  }

  #note(kind: GarbageItem['kind'], { digest, size }: StoredEntry, reason: GarbageItem['reason']): void {
    this.#removed.push({ kind, repository: this.#repository, digest, size, reason })
  }
}
