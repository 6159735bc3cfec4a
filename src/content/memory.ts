import { Readable } from 'node:stream'
import { InvalidArgumentError, LimitError, NotFoundError } from '../errors.ts'
import { type Descriptor, verifyBytes } from '../image/descriptor.ts'
import { type Digest, isDigest } from '../image/digest.ts'
import type { ContentOptions, ContentStore, FetchOptions, ReferrersLister, ReferrersOptions } from './interfaces.ts'
import { assertName } from './name.ts'
import { mayRefer, type Referrer, referrerOf, selectReferrers } from './referrer.ts'
import { collect, verified } from './verify.ts'

/** Options of {@link MemoryStore}. */
export interface MemoryStoreOptions {
  /** Bytes it holds at most; default 1 GiB. Content beyond that is refused with LimitError. */
  readonly maxBytes?: number
}

interface Blob {
  readonly descriptor: Descriptor
  readonly bytes: Uint8Array
}

/** Size of the pieces in which content is handed out, in bytes. */
const chunkSize = 256 * 1024

/** Content in memory: for tests, and for images made on the fly. Names may be any text. */
export class MemoryStore implements ContentStore, ReferrersLister {
  readonly #blobs: Map<Digest, Blob> = new Map()
  readonly #names: Map<string, Descriptor> = new Map()
  readonly #referrers: Referrer[] = []
  readonly #maxBytes: number
  /** Bytes held and bytes being received. */
  #reserved = 0

  constructor(options: MemoryStoreOptions = {}) {
    this.#maxBytes = options.maxBytes ?? 2 ** 30
  }

  async fetch(descriptor: Descriptor, options: FetchOptions = {}): Promise<Readable> {
    options.signal?.throwIfAborted()
    const { offset = 0 } = options
    if (!Number.isSafeInteger(offset) || offset < 0) {
      throw new InvalidArgumentError(`offset must be a number of bytes, not ${offset}`, { subject: 'offset' })
    }
    const blob = this.#blobs.get(descriptor.digest)
    if (blob === undefined) throw new NotFoundError(descriptor.digest)
    return Readable.from(pieces(blob.bytes, offset), { objectMode: false })
  }

  async exists(descriptor: Descriptor, options: ContentOptions = {}): Promise<boolean> {
    options.signal?.throwIfAborted()
    return this.#blobs.has(descriptor.digest)
  }

  async push(descriptor: Descriptor, content: Readable | Uint8Array, options: ContentOptions = {}): Promise<void> {
    try {
      options.signal?.throwIfAborted()
      if (this.#blobs.has(descriptor.digest)) return
      if (this.#reserved + descriptor.size > this.#maxBytes) {
        throw new LimitError(descriptor.digest, this.#maxBytes, 'bytes of memory')
      }
      this.#reserved += descriptor.size
      try {
        const bytes = await this.#receive(descriptor, content, options)
        // Another push of the same content may have come first; it has its own reservation.
        if (this.#blobs.has(descriptor.digest)) this.#reserved -= descriptor.size
        else this.#keep(descriptor, bytes)
      } catch (error) {
        this.#reserved -= descriptor.size
        throw error
      }
    } finally {
      if (content instanceof Readable) content.destroy()
    }
  }

  #keep(descriptor: Descriptor, bytes: Uint8Array): void {
    this.#blobs.set(descriptor.digest, { descriptor: plain(descriptor), bytes })
    const referrer = mayRefer(descriptor) ? referrerOf(descriptor, bytes) : undefined
    if (referrer !== undefined) this.#referrers.push(referrer)
  }

  async #receive(descriptor: Descriptor, content: Readable | Uint8Array, options: ContentOptions): Promise<Uint8Array> {
    if (content instanceof Readable) return collect(verified(descriptor, content, { signal: options.signal }))
    verifyBytes(descriptor, content)
    return content.slice()
  }

  async resolve(reference: string, options: ContentOptions = {}): Promise<Descriptor> {
    options.signal?.throwIfAborted()
    const found =
      this.#names.get(reference) ?? (isDigest(reference) ? this.#blobs.get(reference)?.descriptor : undefined)
    if (found === undefined) throw new NotFoundError(reference)
    return found
  }

  /** @throws NotFoundError when the content is not there. */
  async tag(descriptor: Descriptor, reference: string, options: ContentOptions = {}): Promise<void> {
    options.signal?.throwIfAborted()
    assertName(reference)
    if (!this.#blobs.has(descriptor.digest)) throw new NotFoundError(descriptor.digest)
    this.#names.set(reference, descriptor)
  }

  async *referrers(
    descriptor: Descriptor,
    options: ReferrersOptions = {},
  ): AsyncGenerator<Descriptor, void, undefined> {
    options.signal?.throwIfAborted()
    yield* selectReferrers([...this.#referrers], descriptor.digest, options.artifactType)
  }

  /** The names and what they point at, in the order they were first given. */
  async list(): Promise<readonly { readonly reference: string; readonly descriptor: Descriptor }[]> {
    return [...this.#names].map(([reference, descriptor]) => ({ reference, descriptor }))
  }
}

/** Without what only the place it was found in says of it. */
function plain({ mediaType, digest, size, artifactType }: Descriptor): Descriptor {
  return { mediaType, digest, size, ...(artifactType === undefined ? {} : { artifactType }) }
}

function* pieces(bytes: Uint8Array, offset: number): Iterable<Uint8Array> {
  for (let at = offset; at < bytes.byteLength; at += chunkSize) yield bytes.subarray(at, at + chunkSize)
}
