import type { Descriptor } from '../image/descriptor.ts'
import type { Digest } from '../image/digest.ts'

/**
 * Where an embedded registry keeps its content. `memoryStorage` and `diskStorage` implement it; so
 * can an application.
 *
 * The caller has checked what a stranger controls: repository names and tags follow the grammar of
 * distribution-spec, digests are well-formed, and those of blobs and manifests are sha256 or sha512.
 * Changes to the manifests and tags of one repository, and removals of its blobs, come one after
 * another; everything else may happen at the same time.
 *
 * Content is shared between repositories, but each sees only what was pushed to it or mounted into it.
 * A change is visible completely or not at all, also to whoever opens the storage after a crash.
 */
export interface RegistryStorage {
  /** Whether nothing can be pushed or deleted; default false. */
  readonly readOnly?: boolean | undefined
  /** What quotas and the garbage collection need; a storage without it has neither. */
  readonly maintenance?: StorageMaintenance | undefined

  /** Opens a blob of the repository; undefined when it has none of that digest. */
  openBlob(repository: string, digest: Digest): Promise<StoredBlob | undefined>
  /**
   * Makes a blob of the repository `from` a blob of `repository` too, without copying it.
   * Without `from`, any repository's will do. Returns whether there was one.
   */
  mountBlob(repository: string, digest: Digest, from: string | undefined): Promise<boolean>
  /** Removes a blob from the repository, not from others. Returns whether it was there. */
  deleteBlob(repository: string, digest: Digest): Promise<boolean>

  /** Begins an upload. The id is a UUID that was never used before. */
  createUpload(repository: string, id: string): Promise<StoredUpload>
  /** Takes up an upload that a server which is gone left behind; undefined when there is none. */
  recoverUpload(repository: string, id: string): Promise<StoredUpload | undefined>
  /**
   * Removes what uploads left behind that nobody wrote to for `idleMs` milliseconds, except those
   * whose id is in `live`.
   */
  removeStaleUploads(idleMs: number, live: ReadonlySet<string>): Promise<void>

  /** Whether the repository has a blob or a manifest of that digest. */
  has(repository: string, digest: Digest): Promise<boolean>
  /** A manifest of the repository; undefined when it has none of that digest. */
  getManifest(repository: string, digest: Digest): Promise<StoredManifest | undefined>
  /** Stores a manifest; replaces the media type and referrer when it is there already. */
  putManifest(repository: string, digest: Digest, manifest: StoredManifest, referrer?: Referrer): Promise<void>
  /** Removes a manifest, its entry as a referrer, and the tags that point at it. Returns whether it was there. */
  deleteManifest(repository: string, digest: Digest): Promise<boolean>
  /** The manifests whose subject is `subject`, in the order of their digests, from the first that comes after `after`. */
  referrers(repository: string, subject: Digest, after: string): AsyncIterable<Descriptor>

  /** What a tag points at. */
  getTag(repository: string, tag: string): Promise<Digest | undefined>
  /** Points a tag at a manifest that the repository has; replaces what it pointed at. */
  putTag(repository: string, tag: string, digest: Digest): Promise<void>
  /** Returns whether it was there. */
  deleteTag(repository: string, tag: string): Promise<boolean>
  /** Tags in any order; undefined when there is no such repository. */
  listTags(repository: string): Promise<readonly string[] | undefined>
  /** Names of the repositories that hold anything, in any order. */
  listRepositories(): Promise<readonly string[]>
}

/** How a storage is measured and cleaned. */
export interface StorageMaintenance {
  /**
   * Bytes of the blobs and manifests of a repository; without one, of all content, of which each
   * blob counts once however many repositories have it. What is being uploaded does not count.
   */
  usage(repository?: string): Promise<number>
  /** The blobs of a repository, in any order; those that come or go meanwhile may be among them. */
  blobs(repository: string): AsyncIterable<StoredEntry>
  /** The manifests of a repository, likewise. */
  manifests(repository: string): AsyncIterable<StoredEntry>
  /** Finds blobs that no repository has, not changed since `before` (ms since the epoch); removes them unless `dryRun`. */
  removeUnreferenced(before: number, dryRun: boolean): Promise<readonly StoredEntry[]>
}

/** A blob or manifest in a list. */
export interface StoredEntry {
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
  /** When it was last pushed, mounted or otherwise changed, in milliseconds since the epoch; never too early. */
  readonly changed: number
}

/** An open blob. Close it when done. */
export interface StoredBlob {
  /** Bytes. */
  readonly size: number
  /**
   * The bytes from `start` up to, not including, `end`. Reading to the end or cancelling the stream
   * closes the blob; call it once.
   */
  read(start: number, end: number): ReadableStream<Uint8Array>
  /** Lets go of it; to be called once, also when it has been read. */
  close(): Promise<void>
}

/** The bytes of a blob that is arriving. One call at a time. */
export interface StoredUpload {
  /** Bytes written so far. */
  readonly size: number
  /** Appends all of the chunks, in order. After an error the upload can only be aborted. */
  write(chunks: readonly Uint8Array[]): Promise<void>
  /** Everything written so far, from `start` on. May be called while it is written to. */
  read(start?: number): AsyncIterable<Uint8Array>
  /** Makes the content a blob of the upload's repository, durably. The caller has verified the digest. */
  commit(digest: Digest): Promise<void>
  /** Nobody will write for a while: gives back what is held open. */
  pause(): Promise<void>
  /** Throws the content away. Does nothing after `commit`. */
  abort(): Promise<void>
}

/** A manifest as it was pushed. */
export interface StoredManifest {
  readonly mediaType: string
  /** The exact bytes that the client sent. */
  readonly raw: Uint8Array
}

/** That a manifest refers to another one by its `subject`. */
export interface Referrer {
  readonly subject: Digest
  /** What the referrers API lists for it. */
  readonly descriptor: Descriptor
}
