import { Readable } from 'node:stream'
import type { ContentOptions, ContentStore, FetchOptions } from '../content/interfaces.ts'
import { verified } from '../content/verify.ts'
import { InvalidArgumentError, LimitError, RegistryError } from '../errors.ts'
import { type Descriptor, verifyBytes } from '../image/descriptor.ts'
import { type Digest, parseDigest } from '../image/digest.ts'
import { formatReference, type Reference } from '../image/reference.ts'
import { openContent } from './content-stream.ts'
import { type Endpoint, send } from './endpoint.ts'
import { acceptHeader, assertTag, isManifest, putManifest, readManifest, resolveManifest } from './manifests.ts'
import type { StreamBody } from './request-body.ts'
import { uploadBlob } from './upload.ts'

/** Digests that are remembered as absent. */
const maxAbsent = 10_000

/**
 * One repository of a registry as a content store: `copy` pulls from it and pushes to it. Made by
 * `openRepository` or `RegistryClient.repository`.
 *
 * Every method throws NotFoundError for what is not there, RegistryError for any other refusal,
 * NetworkError when the registry can't be reached, ProtocolError when its answer can't be followed.
 */
export class Repository implements ContentStore {
  /** What the repository was opened as; a tag or digest in it is not looked at. */
  readonly reference: Reference
  readonly #endpoint: Endpoint
  readonly #signal: AbortSignal | undefined
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
   * Finds the manifest or index that a tag or digest of this repository names.
   * @throws LimitError when it is larger than manifests may be.
   * @throws DigestMismatchError when the registry serves other content than it announces.
   */
  async resolve(reference: string, options: ContentOptions = {}): Promise<Descriptor> {
    return resolveManifest(this.#endpoint, reference, this.#join(options.signal))
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
    const { mediaType, digest, size } = descriptor
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
    const path = `${manifest ? 'manifests' : 'blobs'}/${digest}`
    return openContent(
      {
        subject: digest,
        size,
        retry: this.#endpoint.connection.retry,
        request: (from, inner) =>
          send(this.#endpoint, {
            method: 'GET',
            path,
            reference: digest,
            actions: ['pull'],
            headers: {
              ...(manifest ? acceptHeader(mediaType) : { accept: '*/*' }),
              ...(from === undefined ? {} : { range: `bytes=${from}-` }),
            },
            accept: from === undefined ? [200] : [200, 206, 416],
            signal: inner,
          }),
      },
      offset,
      signal,
    )
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
   * is cancelled and the stream destroyed.
   */
  async push(descriptor: Descriptor, content: Readable | Uint8Array, options: ContentOptions = {}): Promise<void> {
    const signal = this.#join(options.signal)
    const stream = content instanceof Uint8Array ? undefined : content
    // It fails when the connection does, maybe while nobody listens; what went wrong is thrown.
    stream?.on('error', () => {})
    try {
      signal?.throwIfAborted()
      assertDescriptor(descriptor)
      if (isManifest(this.#endpoint, descriptor)) {
        const bytes = await readManifest(this.#endpoint, descriptor, content, signal)
        await putManifest(this.#endpoint, descriptor.digest, descriptor, bytes, signal)
      } else if (this.#absent.delete(descriptor.digest) || !(await this.#head(descriptor, ['pull', 'push'], signal))) {
        await uploadBlob(this.#endpoint, descriptor, verifiedBody(descriptor, content), signal)
      }
    } finally {
      stream?.destroy()
    }
  }

  /** Points a tag at a manifest that the repository holds; what was pushed just now is not fetched again. */
  async tag(descriptor: Descriptor, reference: string, options: ContentOptions = {}): Promise<void> {
    const signal = this.#join(options.signal)
    assertTag(reference)
    const content = await this.fetch(descriptor, { signal })
    const bytes = await readManifest(this.#endpoint, descriptor, content, signal)
    await putManifest(this.#endpoint, reference, descriptor, bytes, signal)
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
    if (signal === undefined || this.#signal === undefined) return signal ?? this.#signal
    return AbortSignal.any([signal, this.#signal])
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
