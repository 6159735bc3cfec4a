import { Readable } from 'node:stream'
import { InvalidArgumentError, NotFoundError } from '../../errors.ts'
import type { Descriptor } from '../../image/descriptor.ts'
import { type Digest, isDigest } from '../../image/digest.ts'
import { familiarReference, formatReference, parseReference } from '../../image/reference.ts'
import { quote } from '../../internal/text.ts'
import type {
  ContentOptions,
  Fetcher,
  FetchOptions,
  ReferrersLister,
  ReferrersOptions,
  Resolver,
} from '../interfaces.ts'
import { documentLimits } from '../limits.ts'
import { mediaTypeOf, unknownType } from '../media-type-of.ts'
import { findNamed, listed, type NamedDescriptor } from '../named.ts'
import { mayRefer, type Referrer, referrerOf, selectReferrers } from '../referrer.ts'
import { destroyOnAbort } from '../stream-abort.ts'
import { readAll } from '../verify.ts'
import type { FileIndex, Place } from './file-index.ts'
import { FileSlice } from './file-slice.ts'

/** What an archive holds, as a layout would list it. */
export interface ArchiveParts {
  readonly format: 'oci' | 'docker'
  /** Entries of its `index.json`. */
  readonly entries: readonly Descriptor[]
  /** Where contents are: in the file, or, made from what the archive says, in memory. */
  readonly contents: ReadonlyMap<Digest, Place | Uint8Array>
}

/**
 * An archive of images that is open for reading: a source for `copy`, with random access. Made by
 * `openArchive`; to be closed. Names of a Docker archive are those of its `RepoTags`, in full.
 */
export class Archive implements Fetcher, Resolver, ReferrersLister, AsyncDisposable {
  /** `oci` also for one that is both. */
  readonly format: 'oci' | 'docker'
  readonly #index: FileIndex
  readonly #parts: ArchiveParts
  #referrers: Promise<readonly Referrer[]> | undefined
  #closed: Promise<void> | undefined

  /** @internal Made by `openArchive`. */
  constructor(index: FileIndex, parts: ArchiveParts) {
    this.format = parts.format
    this.#index = index
    this.#parts = parts
  }

  /** The images, in the order of the archive; one that has several names, once for each. */
  async list(): Promise<readonly NamedDescriptor[]> {
    return listed(this.#parts.entries)
  }

  /**
   * By name or digest. A name may be given in full or in Docker's short form.
   * @throws NotFoundError
   * @throws ConflictError when the name stands for different contents.
   */
  async resolve(reference: string, options: ContentOptions = {}): Promise<Descriptor> {
    options.signal?.throwIfAborted()
    const { entries, contents } = this.#parts
    for (const name of spellings(reference)) {
      const found = findNamed(entries, name, 'the archive')
      if (found !== undefined) return found
    }
    const place = isDigest(reference) ? contents.get(reference) : undefined
    if (!isDigest(reference) || place === undefined) {
      const names = listed(entries).flatMap((entry) => entry.reference ?? [])
      const hint = names.length === 0 ? undefined : `It has ${names.slice(0, 20).map(quote).join(', ')}.`
      throw new NotFoundError(reference, `${reference} is not in the archive`, { hint })
    }
    if (place instanceof Uint8Array) {
      return { mediaType: mediaTypeOf(place), digest: reference, size: place.byteLength }
    }
    const isSmall = place.size <= documentLimits.manifest
    const mediaType = isSmall ? mediaTypeOf(await this.#index.bytes(place)) : unknownType
    return { mediaType, digest: reference, size: place.size }
  }

  async fetch(descriptor: Descriptor, options: FetchOptions = {}): Promise<Readable> {
    const { signal, offset = 0 } = options
    signal?.throwIfAborted()
    const content = this.#parts.contents.get(descriptor.digest)
    if (content === undefined) throw new NotFoundError(descriptor.digest, `${descriptor.digest} is not in the archive`)
    const size = content instanceof Uint8Array ? content.byteLength : content.size
    if (!Number.isSafeInteger(offset) || offset < 0 || offset > size) {
      throw new InvalidArgumentError(`offset ${offset} is not within the ${size} bytes of ${descriptor.digest}`, {
        subject: 'offset',
      })
    }
    const stream =
      content instanceof Uint8Array
        ? Readable.from([content.subarray(offset)], { objectMode: false })
        : new FileSlice(this.#index.file, content.offset + offset, content.size - offset)
    return destroyOnAbort(stream, signal)
  }

  /** Of what the archive lists: content it only holds is not looked at. */
  async *referrers(
    descriptor: Descriptor,
    options: ReferrersOptions = {},
  ): AsyncGenerator<Descriptor, void, undefined> {
    options.signal?.throwIfAborted()
    this.#referrers ??= this.#findReferrers()
    yield* selectReferrers(await this.#referrers, descriptor.digest, options.artifactType)
  }

  /** Closes the file. What is still being read from it fails. May be called again. */
  close(): Promise<void> {
    this.#closed ??= this.#index.file.close()
    return this.#closed
  }

  /** {@link close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #findReferrers(): Promise<readonly Referrer[]> {
    const found: Referrer[] = []
    for (const { descriptor } of listed(this.#parts.entries)) {
      if (!mayRefer(descriptor) || !this.#parts.contents.has(descriptor.digest)) continue
      const referrer = referrerOf(descriptor, await readAll(this, descriptor, documentLimits.manifest))
      if (referrer !== undefined) found.push(referrer)
    }
    return found
  }
}

/** What else a reference may be called. */
function spellings(reference: string): readonly string[] {
  try {
    const parsed = parseReference(reference)
    return [...new Set([reference, formatReference(parsed), familiarReference(parsed)])]
  } catch {
    return [reference]
  }
}
