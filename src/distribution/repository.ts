import { Readable } from 'node:stream'
import type {
  ContentOptions,
  ContentStore,
  Fetcher,
  FetchOptions,
  Mounter,
  ReceiveOptions,
  Receiver,
  ReferrersLister,
  ReferrersOptions,
} from '../content/interfaces.ts'
import { verified } from '../content/verify.ts'
import { InvalidArgumentError, LimitError, RegistryError } from '../errors.ts'
import { type Descriptor, verifyBytes } from '../image/descriptor.ts'
import { type Digest, parseDigest } from '../image/digest.ts'
import { formatReference, type Reference } from '../image/reference.ts'
import { joinSignals } from '../internal/join-signals.ts'
import { SingleFlight } from '../internal/single-flight.ts'
import { openFromRegistry } from './blob-fetch.ts'
import { deleteBlob, deleteManifest, deleteTag } from './deletion.ts'
import { assertReference, type Endpoint, heard, send } from './endpoint.ts'
import { type ListOptions, listTags } from './listings.ts'
import { pushManifest, tagManifest } from './manifest-push.ts'
import { acceptHeader, assertTag, isManifest, readManifest, resolveManifest } from './manifests.ts'
import { fromFirst } from './mirrors/sources.ts'
import { listReferrers, unregisterReferrer } from './referrers.ts'
import type { StreamBody } from './request-body.ts'
import { resending } from './resend.ts'
import { mountBlob, uploadBlob } from './upload.ts'

/** How content is pushed. */
export interface PushOptions extends ContentOptions {
  /** Tags for a manifest; where the registry can do that, they cost no further request. */
  readonly tags?: readonly string[] | undefined
}

/** Digests that are remembered as absent. */
const maxAbsent = 10_000

/**
 * One repository of a registry as a content store: `copy` pulls from it and pushes to it. Made by
 * `openRepository` or `RegistryClient.repository`.
 *
 * Every method throws NotFoundError for what is not there, RegistryError for any other refusal,
 * NetworkError when the registry can't be reached, ProtocolError when its answer can't be followed.
 */
export class Repository implements ContentStore, ReferrersLister, Mounter, Receiver {
  /** What the repository was opened as; a tag or digest in it is not looked at. */
  readonly reference: Reference
  readonly #endpoint: Endpoint
  readonly #signal: AbortSignal | undefined
  /** However many ask for the same tag at the same time, one request is sent. */
  readonly #resolving: SingleFlight<Descriptor> = new SingleFlight()
  /** What `exists` has just said is not there: the push that follows need not ask again. */
  readonly #absent: Set<Digest> = new Set()

  /** Not for users: see `openRepository`. */
  constructor(reference: Reference, endpoint: Endpoint, signal: AbortSignal | undefined) {
    this.reference = reference
    this.#endpoint = endpoint
    this.#signal = signal
  }

  /** Registry and repository: `docker.io/library/alpine`. */
  get name(): string {
    const { domain, repository } = this.reference
    return formatReference({ domain, repository })
  }

  /**
   * Finds the manifest or index that a tag or digest of this repository names; mirrors are asked first.
   * @throws LimitError when it is larger than manifests may be.
   * @throws DigestMismatchError when the registry serves other content than it announces.
   */
  async resolve(reference: string, options: ContentOptions = {}): Promise<Descriptor> {
    assertReference(reference)
    const find = (signal: AbortSignal): Promise<Descriptor> =>
      fromFirst(this.#endpoint, reference, signal, (source) => resolveManifest(source, reference, signal))
    return this.#resolving.run(reference, find, this.#join(options.signal))
  }

  /**
   * Opens a manifest or blob; which of the two, its media type tells. When the connection drops, the
   * rest is requested by `Range`, up to `retry.attempts` times without progress. The stream has
   * exactly `descriptor.size` bytes or fails; its digest is not checked.
   * @throws LimitError when it is a manifest and larger than manifests may be.
   * @throws SizeMismatchError when the registry's content has another size.
   */
  async fetch(descriptor: Descriptor, options: FetchOptions = {}): Promise<Readable> {
    const signal = this.#join(options.signal)
    signal?.throwIfAborted()
    assertDescriptor(descriptor)
    const { digest, size } = descriptor
    const { offset = 0 } = options
    if (!Number.isSafeInteger(offset) || offset < 0 || offset > size) {
      throw new InvalidArgumentError(`offset ${offset} is not within the ${size} bytes of ${digest}`, {
        subject: digest,
      })
    }
    const manifest = isManifest(this.#endpoint, descriptor)
    const limit = this.#endpoint.maxManifestSize
    if (manifest && size > limit) throw new LimitError(`manifest ${digest}`, limit, 'bytes')
    const known = this.#endpoint.manifests.get(digest)
    if (known?.byteLength === size) return Readable.from([Buffer.from(known.subarray(offset))], { objectMode: false })
    if (offset === size && size > 0) return Readable.from([])
    return openFromRegistry({ endpoint: heard(this.#endpoint, options.onRetry), descriptor, manifest }, offset, signal)
  }

  /**
   * Whether the registry has the content. As this is the question that comes before a push, access
   * to push is asked for along with it, so that one token serves for all; reading is enough.
   */
  async exists(descriptor: Descriptor, options: ContentOptions = {}): Promise<boolean> {
    assertDescriptor(descriptor)
    const signal = this.#join(options.signal)
    const found = await this.#head(descriptor, ['pull', 'push'], signal).catch((error: unknown) => {
      const refused = error instanceof RegistryError && (error.status === 401 || error.status === 403)
      if (!refused) throw error
      return this.#head(descriptor, ['pull'], signal)
    })
    if (!found && this.#absent.size < maxAbsent) this.#absent.add(descriptor.digest)
    return found
  }

  /**
   * Stores a manifest under its digest, or a blob unless the registry has it. On failure the upload
   * is cancelled and the stream destroyed. A manifest with a subject is found among its referrers
   * afterwards, whether the registry sees to that or not.
   * @throws ConflictError when others keep changing the list of referrers.
   */
  async push(descriptor: Descriptor, content: Readable | Uint8Array, options: PushOptions = {}): Promise<void> {
    const signal = this.#join(options.signal)
    const stream = content instanceof Uint8Array ? undefined : content
    const endpoint = heard(this.#endpoint, options.onRetry)
    // It fails when the connection does, maybe while nobody listens; what went wrong is thrown.
    stream?.on('error', () => {})
    try {
      signal?.throwIfAborted()
      assertDescriptor(descriptor)
      if (isManifest(endpoint, descriptor)) {
        const bytes = await readManifest(endpoint, descriptor, content, signal)
        await pushManifest(endpoint, descriptor, bytes, options.tags ?? [], signal)
      } else if (this.#absent.delete(descriptor.digest) || !(await this.#head(descriptor, ['pull', 'push'], signal))) {
        await uploadBlob(endpoint, descriptor, verifiedBody(descriptor, content), signal)
      }
    } finally {
      stream?.destroy()
    }
  }

  /**
   * Like {@link push}, of content that `open` gives as often as it is asked: when the connection breaks, or the registry
   * says that it is busy, the content is sent once more, from its beginning. `copy` pushes in this way.
   */
  async receive(
    descriptor: Descriptor,
    open: (offset: number) => Promise<Readable>,
    options: ReceiveOptions = {},
  ): Promise<void> {
    const signal = this.#join(options.signal)
    const push = (content: Readable): Promise<void> =>
      this.push(descriptor, content, { signal, onRetry: options.onRetry })
    return resending(this.#endpoint, descriptor, open, push, { ...options, signal })
  }

  /** Points a tag at a manifest that the repository holds; what was pushed just now is not fetched again. */
  async tag(descriptor: Descriptor, reference: string, options: ContentOptions = {}): Promise<void> {
    const signal = this.#join(options.signal)
    assertTag(reference)
    const content = await this.fetch(descriptor, { signal })
    const bytes = await readManifest(this.#endpoint, descriptor, content, signal)
    await tagManifest(this.#endpoint, reference, descriptor, bytes, signal)
  }

  /**
   * Takes a blob over from another repository of the same registry, without a transfer. `source` is
   * that repository or its name; without one the registry is asked to find the blob itself, which few
   * do. False when the registry does not, or `source` is no repository of it; then push the blob.
   */
  async mount(descriptor: Descriptor, source?: Fetcher | string, options: ContentOptions = {}): Promise<boolean> {
    assertDescriptor(descriptor)
    if (isManifest(this.#endpoint, descriptor)) return false
    const from = source instanceof Repository ? this.#nameAtSameRegistry(source) : source
    if (typeof from === 'object' || from === null) return false
    const mounted = await mountBlob(this.#endpoint, descriptor, from, this.#join(options.signal))
    if (mounted) this.#absent.delete(descriptor.digest)
    return mounted
  }

  #nameAtSameRegistry(other: Repository): string | null {
    const same = other.#endpoint.connection.origin.origin === this.#endpoint.connection.origin.origin
    return same ? other.#endpoint.repository : null
  }

  /** Tags of the repository, all pages; nothing is requested before the first is read. */
  tags(options: ListOptions = {}): AsyncGenerator<string, void, undefined> {
    return listTags(this.#endpoint, { ...options, signal: this.#join(options.signal) })
  }

  /**
   * Manifests whose `subject` is `target`: signatures, SBOMs and the like. By the registry's referrers
   * API, or where it has none, by the tag schema.
   */
  referrers(target: Descriptor | Digest, options: ReferrersOptions = {}): AsyncGenerator<Descriptor, void, undefined> {
    const digest = typeof target === 'string' ? target : target.digest
    return listReferrers(this.#endpoint, digest, { ...options, signal: this.#join(options.signal) })
  }

  /**
   * Deletes a manifest, and all its tags with it, or a blob; which of the two, the media type tells. A
   * manifest that is in a list of referrers by the tag schema is taken off it.
   * @throws UnsupportedError when the registry does not delete.
   */
  async delete(descriptor: Descriptor, options: ContentOptions = {}): Promise<void> {
    const signal = this.#join(options.signal)
    assertDescriptor(descriptor)
    if (!isManifest(this.#endpoint, descriptor)) return deleteBlob(this.#endpoint, descriptor.digest, signal)
    const bytes = await readManifest(this.#endpoint, descriptor, await this.fetch(descriptor, { signal }), signal)
    await deleteManifest(this.#endpoint, descriptor.digest, signal)
    await unregisterReferrer(this.#endpoint, descriptor, bytes, signal)
  }

  /** Takes a tag away; the manifest stays. @throws UnsupportedError when the registry does not delete single tags. */
  async untag(tag: string, options: ContentOptions = {}): Promise<void> {
    return deleteTag(this.#endpoint, tag, this.#join(options.signal))
  }

  async #head(
    descriptor: Descriptor,
    actions: readonly ('pull' | 'push')[],
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    const { mediaType, digest } = descriptor
    const manifest = isManifest(this.#endpoint, descriptor)
    const response = await send(this.#endpoint, {
      method: 'HEAD',
      path: `${manifest ? 'manifests' : 'blobs'}/${digest}`,
      reference: digest,
      actions,
      headers: manifest ? acceptHeader(mediaType) : {},
      accept: [200, 404],
      signal,
    })
    response.discard()
    return response.status === 200
  }

  #join(signal: AbortSignal | undefined): AbortSignal | undefined {
    return joinSignals(signal, this.#signal)
  }
}

function verifiedBody(descriptor: Descriptor, content: Readable | Uint8Array): Uint8Array | StreamBody {
  if (!(content instanceof Uint8Array)) return { stream: verified(descriptor, content), size: descriptor.size }
  verifyBytes(descriptor, content)
  return content
}

/** The digest becomes part of a URL, the size a count: a descriptor comes from a stranger's manifest. */
function assertDescriptor({ digest, size }: Descriptor): void {
  parseDigest(digest)
  if (Number.isSafeInteger(size) && size >= 0) return
  throw new InvalidArgumentError(`size ${size} of ${digest} is no number of bytes`, { subject: digest })
}
