import type { Descriptor } from '../image/descriptor.ts'
import type { Digest } from '../image/digest.ts'
import type {
  Referrer,
  RegistryStorage,
  StorageMaintenance,
  StoredBlob,
  StoredManifest,
  StoredUpload,
} from './storage.ts'

/** Contents that are remembered; about 20 MB at most. */
const maxRemembered = 100_000

/**
 * A storage that remembers which content clients have been told is there: a client that knows skips
 * the upload and sends the manifest later, and the garbage collection must not come in between.
 */
export class TrackedStorage implements RegistryStorage {
  readonly maintenance: StorageMaintenance | undefined
  readonly #storage: RegistryStorage
  /** Contents that somebody is looking for, and how many are. */
  readonly #looking = new Map<string, number>()
  /** Contents that are being removed; whoever looks for them waits. */
  readonly #condemned = new Map<string, Promise<void>>()
  /** When content was last said to be there, oldest first. */
  readonly #said = new Map<string, number>()
  /** What was said before that is not known any more. */
  #forgotten = Number.NEGATIVE_INFINITY

  constructor(storage: RegistryStorage) {
    this.#storage = storage
    this.maintenance = storage.maintenance
  }

  get readOnly(): boolean {
    return this.#storage.readOnly ?? false
  }

  /**
   * Runs `remove` while nobody gets to hear that the contents are there. Does nothing and returns false
   * when somebody heard of one of them since `before`, or is just asking.
   */
  async removing(
    repository: string,
    digests: readonly Digest[],
    before: number,
    remove: () => Promise<void>,
  ): Promise<boolean> {
    if (digests.some((digest) => this.wasSaid(repository, digest, before))) return false
    let release = (): void => {}
    const over = new Promise<void>((resolve) => {
      release = resolve
    })
    for (const digest of digests) this.#condemned.set(key(repository, digest), over)
    try {
      await remove()
    } finally {
      for (const digest of digests) this.#condemned.delete(key(repository, digest))
      release()
    }
    return true
  }

  /** Whether a client may have heard since `before` (ms since the epoch) that the content is there. */
  wasSaid(repository: string, digest: Digest, before: number): boolean {
    const name = key(repository, digest)
    return this.#looking.has(name) || this.#forgotten >= before || (this.#said.get(name) ?? 0) >= before
  }

  /** Opens a blob for our own use: no client hears of it. */
  peekBlob(repository: string, digest: Digest): Promise<StoredBlob | undefined> {
    return this.#storage.openBlob(repository, digest)
  }

  /** A manifest for our own use: no client hears of it. */
  peekManifest(repository: string, digest: Digest): Promise<StoredManifest | undefined> {
    return this.#storage.getManifest(repository, digest)
  }

  openBlob(repository: string, digest: Digest): Promise<StoredBlob | undefined> {
    return this.#say(repository, digest, () => this.#storage.openBlob(repository, digest))
  }

  mountBlob(repository: string, digest: Digest, from: string | undefined): Promise<boolean> {
    return this.#say(repository, digest, () => this.#storage.mountBlob(repository, digest, from))
  }

  getManifest(repository: string, digest: Digest): Promise<StoredManifest | undefined> {
    return this.#say(repository, digest, () => this.#storage.getManifest(repository, digest))
  }

  async createUpload(repository: string, id: string): Promise<StoredUpload> {
    return this.#track(repository, await this.#storage.createUpload(repository, id))
  }

  async recoverUpload(repository: string, id: string): Promise<StoredUpload | undefined> {
    const upload = await this.#storage.recoverUpload(repository, id)
    return upload && this.#track(repository, upload)
  }

  deleteBlob(repository: string, digest: Digest): Promise<boolean> {
    return this.#storage.deleteBlob(repository, digest)
  }

  removeStaleUploads(idleMs: number, live: ReadonlySet<string>): Promise<void> {
    return this.#storage.removeStaleUploads(idleMs, live)
  }

  has(repository: string, digest: Digest): Promise<boolean> {
    return this.#storage.has(repository, digest)
  }

  putManifest(repository: string, digest: Digest, manifest: StoredManifest, referrer?: Referrer): Promise<void> {
    return this.#storage.putManifest(repository, digest, manifest, referrer)
  }

  deleteManifest(repository: string, digest: Digest): Promise<boolean> {
    return this.#storage.deleteManifest(repository, digest)
  }

  referrers(repository: string, subject: Digest, after: string): AsyncIterable<Descriptor> {
    return this.#storage.referrers(repository, subject, after)
  }

  getTag(repository: string, tag: string): Promise<Digest | undefined> {
    return this.#storage.getTag(repository, tag)
  }

  putTag(repository: string, tag: string, digest: Digest): Promise<void> {
    return this.#storage.putTag(repository, tag, digest)
  }

  deleteTag(repository: string, tag: string): Promise<boolean> {
    return this.#storage.deleteTag(repository, tag)
  }

  listTags(repository: string): Promise<readonly string[] | undefined> {
    return this.#storage.listTags(repository)
  }

  listRepositories(): Promise<readonly string[]> {
    return this.#storage.listRepositories()
  }

  #track(repository: string, upload: StoredUpload): StoredUpload {
    return {
      get size() {
        return upload.size
      },
      write: (chunks) => upload.write(chunks),
      read: (start) => upload.read(start),
      commit: (digest) => this.#say(repository, digest, () => upload.commit(digest).then(() => true)).then(() => {}),
      pause: () => upload.pause(),
      abort: () => upload.abort(),
    }
  }

  /** Nothing is removed between the look and the note of it. */
  async #say<T>(repository: string, digest: Digest, look: () => Promise<T>): Promise<T> {
    const name = key(repository, digest)
    for (let over = this.#condemned.get(name); over !== undefined; over = this.#condemned.get(name)) await over
    this.#looking.set(name, (this.#looking.get(name) ?? 0) + 1)
    try {
      const found = await look()
      if (found !== undefined && found !== false) this.#note(name)
      return found
    } finally {
      const others = (this.#looking.get(name) ?? 0) - 1
      if (others > 0) this.#looking.set(name, others)
      else this.#looking.delete(name)
    }
  }

  #note(name: string): void {
    this.#said.delete(name)
    this.#said.set(name, Date.now())
    const [oldest] = this.#said
    if (this.#said.size <= maxRemembered || oldest === undefined) return
    this.#said.delete(oldest[0])
    this.#forgotten = oldest[1]
  }
}

function key(repository: string, digest: Digest): string {
  return `${repository}@${digest}`
}
