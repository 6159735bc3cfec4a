import type { FileHandle } from 'node:fs/promises'
import { mkdir, open, readdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { InvalidArgumentError, NotFoundError } from '../errors.ts'
import { type Descriptor, verifyBytes } from '../image/descriptor.ts'
import { type Digest, digestAlgorithm, digestEncoded, isDigest, isVerifiable, parseDigest } from '../image/digest.ts'
import { layoutVersion, parseLayoutHeader } from '../image/layout-header.ts'
import { mediaType } from '../image/media-type.ts'
import { fileError, hasCode } from '../internal/file-error.ts'
import { inTurn } from '../internal/in-turn.ts'
import { assemble } from './assemble.ts'
import { type Exclusive, fileLock } from './file-lock.ts'
import type {
  ContentOptions,
  ContentStore,
  FetchOptions,
  ReceiveOptions,
  Receiver,
  ReferrersLister,
  ReferrersOptions,
} from './interfaces.ts'
import { LayoutIndex } from './layout-index.ts'
import { documentLimits } from './limits.ts'
import { measure } from './measure.ts'
import { mediaTypeOf, unknownType } from './media-type-of.ts'
import type { NamedDescriptor } from './named.ts'
import { markOwnPieces } from './own-pieces.ts'
import { isAlive, ownerOf, ownOwner } from './owner.ts'
import { isPartial, PartialFiles } from './partial-files.ts'
import { publish, syncFolder } from './publish.ts'
import { mayRefer, type Referrer, referrerOf, selectReferrers } from './referrer.ts'
import { destroyOnAbort } from './stream-abort.ts'
import { readAll, verified } from './verify.ts'
import { writeStream } from './write-stream.ts'

export type { Exclusive } from './file-lock.ts'
export type { NamedDescriptor } from './named.ts'

/** Options of {@link LayoutStore}. */
export interface LayoutOptions extends ContentOptions {
  /**
   * Guards changes of `index.json` against other processes. Default: a lock file in `ingest`. Whoever
   * writes to the same layout must use the same lock.
   */
  readonly lock?: Exclusive | undefined
  /** Whether to wait until content is on the disk before it is seen; default true. */
  readonly sync?: boolean | undefined
  /** Bytes of `index.json` at most; default 4 MiB. */
  readonly maxIndexBytes?: number | undefined
  /**
   * Whether what has arrived of a large blob is kept when the rest does not come, so that the next copy, in
   * any process, fetches the rest only; default true. It stays in `ingest` for a day, of 16 blobs at most.
   */
  readonly resumable?: boolean | undefined
}

/** Options of {@link LayoutStore.tag}. */
export interface TagOptions extends ContentOptions {
  /** Whether what the reference named before stays listed, without a name if it has no other. Default false. */
  readonly keepReplaced?: boolean | undefined
}

/** Folder, in the layout, for what is not complete yet. */
const ingest = 'ingest'

/** Size of the pieces in which content is read, in bytes: a push takes 5 % less CPU than with half of it, and more memory with twice. */
const chunkSize = 512 * 1024

/** Size from which on it is worth keeping the beginning of a blob, in bytes. */
const resumableSize = 1024 * 1024

/**
 * Content in an OCI image layout directory (image-spec, image-layout.md), which skopeo, umoci and
 * others read and write too. Blobs appear whole or not at all; any number of processes may write.
 *
 * Names are kept in `index.json` as the annotation `org.opencontainers.image.ref.name`; one that holds
 * a slash, such as `127.0.0.1:5000/x:1`, also as `io.containerd.image.name`. What arrives is
 * collected in the folder `ingest`.
 */
export class LayoutStore implements ContentStore, Receiver, ReferrersLister {
  /** The directory. */
  readonly path: string
  readonly #index: LayoutIndex
  readonly #sync: boolean
  readonly #partials: PartialFiles | undefined
  readonly #referrers: Map<Digest, Referrer | undefined> = new Map()

  private constructor(path: string, options: LayoutOptions) {
    this.path = path
    this.#sync = options.sync ?? true
    this.#partials = (options.resumable ?? true) ? new PartialFiles(join(path, ingest)) : undefined
    this.#index = new LayoutIndex(join(path, 'index.json'), {
      lock: options.lock ?? fileLock(join(path, ingest, 'index.lock')),
      sync: this.#sync,
      folder: join(path, ingest),
      maxBytes: options.maxIndexBytes ?? documentLimits.index,
    })
  }

  /**
   * Opens a layout.
   * @throws NotFoundError when the directory is no layout; SpecError when its version is not 1.
   */
  static async open(path: string, options: LayoutOptions = {}): Promise<LayoutStore> {
    options.signal?.throwIfAborted()
    try {
      parseLayoutHeader(await readFile(join(path, 'oci-layout')))
    } catch (error) {
      if (hasCode(error, 'ENOENT') || hasCode(error, 'ENOTDIR')) {
        throw new NotFoundError(path, `${path} is not an OCI image layout: it has no file oci-layout`, { cause: error })
      }
      throw fileError(error, 'reading an image layout', path)
    }
    return new LayoutStore(path, options)
  }

  /**
   * Opens a layout, and makes it first where it is missing; directories above it too. Removes what
   * processes that have died left in `ingest`.
   */
  static async create(path: string, options: LayoutOptions = {}): Promise<LayoutStore> {
    options.signal?.throwIfAborted()
    const sync = options.sync ?? true
    const folder = join(path, ingest)
    try {
      await mkdir(join(path, 'blobs', 'sha256'), { recursive: true })
      await mkdir(folder, { recursive: true })
      const index = { schemaVersion: 2, mediaType: mediaType.ociIndex, manifests: [] }
      const header = { imageLayoutVersion: layoutVersion }
      await publish(join(path, 'index.json'), JSON.stringify(index), { sync, folder, replace: false })
      // The last one: with it the layout is complete.
      await publish(join(path, 'oci-layout'), JSON.stringify(header), { sync, folder, replace: false })
    } catch (error) {
      throw fileError(error, 'making an image layout', path)
    }
    const store = await LayoutStore.open(path, options)
    await store.removeAbandoned()
    return store
  }

  /** Where the content of a digest is, or would be. @throws InvalidDigestError */
  blobPath(digest: Digest): string {
    const checked = parseDigest(digest)
    return join(this.path, 'blobs', digestAlgorithm(checked), digestEncoded(checked))
  }

  async fetch(descriptor: Descriptor, options: FetchOptions = {}): Promise<Readable> {
    const { signal, offset = 0 } = options
    signal?.throwIfAborted()
    if (!Number.isSafeInteger(offset) || offset < 0) {
      throw new InvalidArgumentError(`offset must be a number of bytes, not ${offset}`, { subject: 'offset' })
    }
    const file = await this.#open(descriptor.digest)
    // A stream takes memory for a whole chunk with each read, also for a manifest of some hundred bytes.
    const highWaterMark = Math.max(1, Math.min(chunkSize, descriptor.size + 1))
    return destroyOnAbort(markOwnPieces(file.createReadStream({ start: offset, highWaterMark })), signal)
  }

  async #open(digest: Digest): Promise<FileHandle> {
    try {
      return await open(this.blobPath(digest))
    } catch (error) {
      if (hasCode(error, 'ENOENT')) throw new NotFoundError(digest, `${digest} is not in ${this.path}`)
      throw fileError(error, `reading ${digest}`, digest)
    }
  }

  /** Content counts as there only when its size is right: a crash may leave files without their content. */
  async exists(descriptor: Descriptor, options: ContentOptions = {}): Promise<boolean> {
    options.signal?.throwIfAborted()
    return (await this.#size(descriptor.digest)) === descriptor.size
  }

  async #size(digest: Digest): Promise<number | undefined> {
    try {
      const found = await stat(this.blobPath(digest))
      return found.isFile() ? found.size : undefined
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined
      throw fileError(error, `looking for ${digest}`, digest)
    }
  }

  /** What has a `subject` is listed in `index.json`, too: nothing else would lead to it. */
  async push(descriptor: Descriptor, content: Readable | Uint8Array, options: ContentOptions = {}): Promise<void> {
    const { signal } = options
    const { digest } = descriptor
    // At once, so that an error of the stream meets a listener whatever is waited for first.
    const source = content instanceof Readable ? verified(descriptor, content, { signal }) : content
    try {
      signal?.throwIfAborted()
      if (await this.exists(descriptor)) return
      const bytes = await this.#document(descriptor, source)
      await mkdir(join(this.path, 'blobs', digestAlgorithm(digest)), { recursive: true })
      await publish(
        this.blobPath(digest),
        (file) => (bytes === undefined ? writeStream(file, source as Readable) : file.writeFile(bytes)),
        { sync: this.#sync, folder: join(this.path, ingest), replace: true },
      )
      const referrer = bytes !== undefined && mayRefer(descriptor) ? referrerOf(descriptor, bytes) : undefined
      if (referrer !== undefined) await this.#index.add(referrer.descriptor, signal)
    } catch (error) {
      signal?.throwIfAborted()
      if (source instanceof Readable && source.errored === error) throw error
      throw fileError(error, `writing ${digest}`, digest)
    } finally {
      if (source instanceof Readable) source.destroy()
      if (content instanceof Readable) content.destroy()
    }
  }

  /**
   * Stores content that arrives, and goes on where an earlier attempt broke off. Of several in this process
   * that receive the same at the same time, one asks for it, and the others wait; those of other
   * processes do not wait for each other.
   */
  async receive(
    descriptor: Descriptor,
    open: (offset: number) => Promise<Readable>,
    options: ReceiveOptions = {},
  ): Promise<void> {
    await inTurn(this.blobPath(descriptor.digest), options.signal, () => this.#receive(descriptor, open, options))
  }

  async #receive(
    descriptor: Descriptor,
    open: (offset: number) => Promise<Readable>,
    options: ReceiveOptions,
  ): Promise<void> {
    const { signal, onBytes } = options
    const { digest, size } = descriptor
    signal?.throwIfAborted()
    if (await this.exists(descriptor)) return
    if (this.#partials === undefined || size < resumableSize || mayRefer(descriptor) || !isVerifiable(digest)) {
      return this.push(descriptor, verified(descriptor, await open(0), { signal, onBytes }), { signal })
    }
    try {
      await mkdir(join(this.path, ingest), { recursive: true })
      await assemble(this.#partials, this.blobPath(digest), descriptor, open, { ...options, sync: this.#sync })
    } catch (error) {
      signal?.throwIfAborted()
      throw fileError(error, `writing ${digest}`, digest)
    }
  }

  /**
   * Stores content whose digest is not known before, such as a layer that is being made, as it comes. `keep` is
   * told of the digest before the content is seen by others: it is to keep it from being collected.
   */
  async add(
    mediaType: string,
    content: Readable,
    options: ContentOptions & { readonly keep?: (digest: Digest) => Promise<void> } = {},
  ): Promise<Descriptor> {
    const { signal, keep } = options
    const { content: measured, digest: digestNow, size } = measure(destroyOnAbort(content, signal))
    let digest: Digest | undefined
    const path = async (): Promise<string> => {
      digest = digestNow()
      await keep?.(digest)
      return this.blobPath(digest)
    }
    try {
      signal?.throwIfAborted()
      const folder = join(this.path, ingest)
      await publish(path, (file) => writeStream(file, measured), { sync: this.#sync, folder, replace: true })
    } catch (error) {
      signal?.throwIfAborted()
      if (content.errored === error) throw error
      throw fileError(error, 'writing new content')
    } finally {
      content.destroy()
    }
    return { mediaType, digest: digest as Digest, size: size() }
  }

  /** Content in memory, verified: bytes, and manifests, which are looked into. Else undefined. */
  async #document(descriptor: Descriptor, source: Readable | Uint8Array): Promise<Uint8Array | undefined> {
    if (source instanceof Readable) {
      const isSmall = mayRefer(descriptor) && descriptor.size <= documentLimits.manifest
      return isSmall ? readAll({ fetch: async () => source }, descriptor, documentLimits.manifest) : undefined
    }
    verifyBytes(descriptor, source)
    return source
  }

  /** Those that `index.json` lists. */
  async *referrers(
    descriptor: Descriptor,
    options: ReferrersOptions = {},
  ): AsyncGenerator<Descriptor, void, undefined> {
    options.signal?.throwIfAborted()
    const found: Referrer[] = []
    for (const { descriptor: entry } of await this.#index.entries()) {
      const referrer = await this.#referrer(entry)
      if (referrer !== undefined) found.push(referrer)
    }
    yield* selectReferrers(found, descriptor.digest, options.artifactType)
  }

  /** What a digest stands for does not change, so that each is read once. */
  async #referrer(entry: Descriptor): Promise<Referrer | undefined> {
    const { digest } = entry
    if (!mayRefer(entry) || this.#referrers.has(digest)) return this.#referrers.get(digest)
    if (!(await this.exists(entry))) return undefined
    const referrer = referrerOf(entry, await readAll(this, entry, documentLimits.manifest))
    this.#referrers.set(digest, referrer)
    return referrer
  }

  /**
   * By name, or by digest, of which the media type is found out from `index.json` or the content.
   * @throws NotFoundError
   * @throws ConflictError when `index.json` has the name for different contents.
   */
  async resolve(reference: string, options: ContentOptions = {}): Promise<Descriptor> {
    options.signal?.throwIfAborted()
    const named = await this.#index.find(reference)
    if (named !== undefined) return named
    const size = isDigest(reference) ? await this.#size(reference) : undefined
    if (!isDigest(reference) || size === undefined) {
      throw new NotFoundError(reference, `${reference} is not in ${this.path}`)
    }
    const isSmall = size <= documentLimits.manifest
    const mediaType = isSmall ? mediaTypeOf(await readFile(this.blobPath(reference))) : unknownType
    return { mediaType, digest: reference, size }
  }

  /** @throws NotFoundError when the content is not there. */
  async tag(descriptor: Descriptor, reference: string, options: TagOptions = {}): Promise<void> {
    options.signal?.throwIfAborted()
    if (!(await this.exists(descriptor))) {
      throw new NotFoundError(descriptor.digest, `${descriptor.digest} is not in ${this.path}`)
    }
    await this.#index.set(reference, descriptor, options.signal, options.keepReplaced)
  }

  /** Lists content without giving it a name. @throws NotFoundError when it is not there. */
  async enlist(descriptor: Descriptor, options: ContentOptions = {}): Promise<void> {
    options.signal?.throwIfAborted()
    if (!(await this.exists(descriptor))) {
      throw new NotFoundError(descriptor.digest, `${descriptor.digest} is not in ${this.path}`)
    }
    await this.#index.add(descriptor, options.signal)
  }

  /** Takes a name away; whether it was there. The content stays. */
  async untag(reference: string, options: ContentOptions = {}): Promise<boolean> {
    options.signal?.throwIfAborted()
    return this.#index.delete(reference, options.signal)
  }

  /** Takes those entries of `index.json` away that `drop` says, in one change; how many. The content stays. */
  async unlist(drop: (entry: NamedDescriptor) => boolean, options: ContentOptions = {}): Promise<number> {
    options.signal?.throwIfAborted()
    return this.#index.unlist(drop, options.signal)
  }

  /**
   * Makes an `index.json` that can't be read any more anew, with entries without a name; the old one stays beside it
   * as `index.json.damaged`. One that can be read stays as it is.
   */
  async rebuildIndex(entries: readonly Descriptor[], options: ContentOptions = {}): Promise<void> {
    options.signal?.throwIfAborted()
    await this.#index.rebuild(entries, options.signal)
  }

  /** What `index.json` lists, in its order; entries without a name too. */
  async list(options: ContentOptions = {}): Promise<readonly NamedDescriptor[]> {
    options.signal?.throwIfAborted()
    return this.#index.entries()
  }

  /** Removes what processes that have died left in `ingest`, as {@link LayoutStore.create} does. */
  async removeAbandoned(): Promise<void> {
    const folder = join(this.path, ingest)
    const here = await ownOwner()
    for (const name of await readdir(folder)) {
      const owner = ownerOf(name)
      // What has arrived of a blob is worth something, though who has begun it is gone.
      const dead = owner !== undefined && isAlive(owner, here) === false && !isPartial(name)
      if (dead || (await isForgotten(join(folder, name)))) await rm(join(folder, name), { force: true })
    }
    await this.#partials?.prune()
    if (this.#sync) await syncFolder(folder)
  }
}

/** Age from which a file of unknown origin in `ingest` is taken for left behind, in milliseconds: a day. */
const forgottenAge = 86_400_000

async function isForgotten(path: string): Promise<boolean> {
  try {
    return Date.now() - (await stat(path)).mtimeMs > forgottenAge
  } catch {
    // Its owner has moved or removed it.
    return false
  }
}
