import { LimitError } from '../errors.ts'
import type { Descriptor } from '../image/descriptor.ts'
import type { Digest } from '../image/digest.ts'
import { type Bytes, toBytes } from '../internal/units.ts'
import { MemoryUpload, openBytes } from './memory-blob.ts'
import type {
  Referrer,
  RegistryStorage,
  StorageMaintenance,
  StoredBlob,
  StoredEntry,
  StoredManifest,
  StoredUpload,
} from './storage.ts'

/** Options of {@link memoryStorage}. */
export interface MemoryStorageOptions {
  /** Bytes of blobs, uploads and manifests together; default 1 GiB. A request beyond it is answered with 507. */
  readonly maxSize?: Bytes | undefined
}

/** Keeps a registry's content in memory, for tests. It is gone with the process. @throws InvalidArgumentError */
export function memoryStorage(options: MemoryStorageOptions = {}): RegistryStorage {
  return new MemoryStorage(toBytes(options.maxSize ?? '1g', 'maxSize'))
}

interface Repository {
  readonly blobs: Map<Digest, { readonly blob: SharedBlob; readonly changed: number }>
  readonly manifests: Map<Digest, Manifest>
  readonly tags: Map<string, Digest>
}

interface Manifest {
  readonly manifest: StoredManifest
  readonly referrer: Referrer | undefined
  readonly changed: number
}

interface SharedBlob {
  readonly bytes: Buffer
  /** Repositories that have it. */
  uses: number
}

/** What a name, a link or a manifest takes beside its content, in bytes: they are many when a client wants them to be. */
const entrySize = 512

class MemoryStorage implements RegistryStorage, StorageMaintenance {
  readonly maintenance: StorageMaintenance = this
  readonly #limit: number
  #used = 0
  readonly #blobs = new Map<Digest, SharedBlob>()
  readonly #repositories = new Map<string, Repository>()

  constructor(limit: number) {
    this.#limit = limit
  }

  async openBlob(repository: string, digest: Digest): Promise<StoredBlob | undefined> {
    const found = this.#repositories.get(repository)?.blobs.get(digest)
    return found && openBytes(found.blob.bytes)
  }

  async mountBlob(repository: string, digest: Digest, from: string | undefined): Promise<boolean> {
    const blob = from === undefined ? this.#blobs.get(digest) : this.#repositories.get(from)?.blobs.get(digest)?.blob
    if (blob !== undefined) this.#link(repository, digest, blob)
    return blob !== undefined
  }

  async deleteBlob(repository: string, digest: Digest): Promise<boolean> {
    const found = this.#repositories.get(repository)
    const blob = found?.blobs.get(digest)?.blob
    if (found === undefined || blob === undefined) return false
    found.blobs.delete(digest)
    this.#reserve(-entrySize)
    this.#dropIfEmpty(repository)
    blob.uses -= 1
    if (blob.uses === 0) {
      this.#blobs.delete(digest)
      this.#reserve(-blob.bytes.byteLength)
    }
    return true
  }

  async createUpload(repository: string): Promise<StoredUpload> {
    return new MemoryUpload({
      reserve: (size) => this.#reserve(size),
      commit: (digest, bytes) => {
        const known = this.#blobs.get(digest)
        const blob = known ?? { bytes, uses: 0 }
        this.#link(repository, digest, blob)
        if (known === undefined) this.#blobs.set(digest, blob)
        else this.#reserve(-bytes.byteLength)
      },
    })
  }

  async recoverUpload(): Promise<undefined> {
    return undefined
  }

  async removeStaleUploads(): Promise<void> {}

  async has(repository: string, digest: Digest): Promise<boolean> {
    const found = this.#repositories.get(repository)
    return found !== undefined && (found.blobs.has(digest) || found.manifests.has(digest))
  }

  async getManifest(repository: string, digest: Digest): Promise<StoredManifest | undefined> {
    return this.#repositories.get(repository)?.manifests.get(digest)?.manifest
  }

  async putManifest(repository: string, digest: Digest, manifest: StoredManifest, referrer?: Referrer): Promise<void> {
    const before = this.#repositories.get(repository)?.manifests.get(digest)
    this.#reserve(manifestSize(manifest) - (before === undefined ? 0 : manifestSize(before.manifest)))
    this.#repository(repository).manifests.set(digest, { manifest, referrer, changed: Date.now() })
  }

  async deleteManifest(repository: string, digest: Digest): Promise<boolean> {
    const found = this.#repositories.get(repository)
    const entry = found?.manifests.get(digest)
    if (found === undefined || entry === undefined) return false
    found.manifests.delete(digest)
    this.#reserve(-manifestSize(entry.manifest))
    for (const [tag, target] of found.tags) if (target === digest) await this.deleteTag(repository, tag)
    this.#dropIfEmpty(repository)
    return true
  }

  async *referrers(repository: string, subject: Digest, after: string): AsyncGenerator<Descriptor> {
    const manifests = this.#repositories.get(repository)?.manifests ?? []
    const found = [...manifests].filter(([digest, { referrer }]) => referrer?.subject === subject && digest > after)
    for (const [, { referrer }] of found.sort(([a], [b]) => (a < b ? -1 : 1))) {
      if (referrer !== undefined) yield referrer.descriptor
    }
  }

  async getTag(repository: string, tag: string): Promise<Digest | undefined> {
    return this.#repositories.get(repository)?.tags.get(tag)
  }

  async putTag(repository: string, tag: string, digest: Digest): Promise<void> {
    const { tags } = this.#repository(repository)
    if (!tags.has(tag)) this.#reserve(entrySize)
    tags.set(tag, digest)
  }

  async deleteTag(repository: string, tag: string): Promise<boolean> {
    const found = this.#repositories.get(repository)?.tags.delete(tag) ?? false
    if (found) this.#reserve(-entrySize)
    return found
  }

  async listTags(repository: string): Promise<readonly string[] | undefined> {
    const found = this.#repositories.get(repository)
    return found && [...found.tags.keys()]
  }

  async listRepositories(): Promise<readonly string[]> {
    return [...this.#repositories.keys()]
  }

  async usage(repository?: string): Promise<number> {
    const names = repository === undefined ? [...this.#repositories.keys()] : [repository]
    let sum = 0
    for (const name of names) {
      for await (const { size } of this.manifests(name)) sum += size
      if (repository !== undefined) for await (const { size } of this.blobs(name)) sum += size
    }
    if (repository === undefined) for (const { bytes } of this.#blobs.values()) sum += bytes.byteLength
    return sum
  }

  async *blobs(repository: string): AsyncGenerator<StoredEntry> {
    const blobs = this.#repositories.get(repository)?.blobs ?? []
    for (const [digest, { blob, changed }] of [...blobs]) yield { digest, size: blob.bytes.byteLength, changed }
  }

  async *manifests(repository: string): AsyncGenerator<StoredEntry> {
    const manifests = this.#repositories.get(repository)?.manifests ?? []
    for (const [digest, { manifest, changed }] of [...manifests]) {
      yield { digest, size: manifest.raw.byteLength, changed }
    }
  }

  /** There are none: the last repository takes its blob with it. */
  async removeUnreferenced(): Promise<readonly StoredEntry[]> {
    return []
  }

  #repository(name: string): Repository {
    let found = this.#repositories.get(name)
    if (found === undefined) {
      found = { blobs: new Map(), manifests: new Map(), tags: new Map() }
      this.#repositories.set(name, found)
    }
    return found
  }

  #dropIfEmpty(name: string): void {
    const found = this.#repositories.get(name)
    if (found?.blobs.size === 0 && found.manifests.size === 0) this.#repositories.delete(name)
  }

  #link(repository: string, digest: Digest, blob: SharedBlob): void {
    if (this.#repositories.get(repository)?.blobs.has(digest)) return
    this.#reserve(entrySize)
    this.#repository(repository).blobs.set(digest, { blob, changed: Date.now() })
    blob.uses += 1
  }

  #reserve(size: number): void {
    if (this.#used + size > this.#limit) throw new LimitError('the memory of the registry', this.#limit, 'bytes')
    this.#used += size
  }
}

function manifestSize({ raw }: StoredManifest): number {
  return raw.byteLength + entrySize
}
