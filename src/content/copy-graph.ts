import { setMaxListeners } from 'node:events'
import type { Readable } from 'node:stream'
import { DigestMismatchError, InvalidDigestError, LimitError, SizeMismatchError } from '../errors.ts'
import { type Descriptor, embeddedContent } from '../image/descriptor.ts'
import { type Digest, isVerifiable } from '../image/digest.ts'
import { parseManifestOrIndex, successors } from '../image/manifest.ts'
import { isForeignLayerType, isIndexType, isManifestType } from '../image/media-type.ts'
import { onAbort } from '../internal/abort.ts'
import { Semaphore } from '../internal/semaphore.ts'
import { type CopyFailure, noteFailure } from './copy-failure.ts'
import { type ProgressListener, ProgressMeter, type TransferMeter } from './copy-progress.ts'
import type { ContentOptions, Fetcher, Mounter, Pusher, Receiver, ReferrersLister } from './interfaces.ts'
import { documentLimits } from './limits.ts'
import { readAll, verified } from './verify.ts'

/** Reads a document of the source whole, verified; each one once. */
export type DocumentReader = (descriptor: Descriptor, limit: number) => Promise<Uint8Array>

/** What {@link CopyGraph} needs to know. */
export interface CopyGraphOptions extends ContentOptions {
  readonly concurrency: number
  readonly onProgress: ProgressListener | undefined
  /** Told of each manifest and index before what it names is copied. */
  readonly onManifest: ((descriptor: Descriptor, raw: Uint8Array) => void) | undefined
  /** Copies what refers to the content as well, of one type or all; undefined when that is not wanted. */
  readonly referrers: { readonly lister: ReferrersLister; readonly artifactType: string | undefined } | undefined
}

/** What {@link CopyGraph.copy} begins with: a descriptor, and its content where that was made on the way. */
export interface CopyRoot {
  readonly root: Descriptor
  readonly raw?: Uint8Array
}

/**
 * Bounds on a graph that a stranger made: indexes inside indexes, descriptors, and bytes of manifests,
 * all of which are held in memory until what they name has been copied.
 */
const maxDepth = 8
const maxDescriptors = 100_000
const maxManifestBytes = 64 * 2 ** 20

/** Referrers of referrers that are followed: a signature of an SBOM of an image is 2. */
const maxReferrerDepth = 8

/** One copy of a graph of content. Made for one use. */
export class CopyGraph {
  readonly #source: Fetcher
  readonly #target: Pusher & Partial<Mounter & Receiver>
  readonly #referrers: CopyGraphOptions['referrers']
  readonly #onManifest: CopyGraphOptions['onManifest']
  readonly #signal: AbortSignal | undefined
  /** Aborts everything at the first failure; its reason is that failure, or the caller's. */
  readonly #controller = new AbortController()
  /** Places for transfers. Nobody waits for other content while holding one. */
  readonly #places: Semaphore
  /** As many for small requests, which do not wait for large transfers: they find out what else there is to do. */
  readonly #smallPlaces: Semaphore
  readonly #meter: ProgressMeter
  readonly #documents = new Map<Digest, Uint8Array>()
  readonly #tasks = new Map<string, Promise<void>>()
  #manifestBytes = 0

  constructor(source: Fetcher, target: Pusher & Partial<Mounter & Receiver>, options: CopyGraphOptions) {
    this.#source = source
    this.#target = target
    this.#referrers = options.referrers
    this.#onManifest = options.onManifest
    this.#signal = options.signal
    // Every transfer listens; 64 at a time are no leak.
    setMaxListeners(0, this.#controller.signal)
    this.#places = new Semaphore(options.concurrency)
    this.#smallPlaces = new Semaphore(options.concurrency)
    this.#meter = new ProgressMeter(options.onProgress)
  }

  /** Copies the graph below the root that `choose` names, and what refers to it; returns that root. */
  async copy(choose: (read: DocumentReader, signal: AbortSignal) => Promise<CopyRoot>): Promise<Descriptor> {
    const unlink = onAbort(this.#signal, () => this.#controller.abort(this.#signal?.reason))
    try {
      return await this.#guard(async () => {
        const read: DocumentReader = (descriptor, limit) => this.#read(descriptor, limit)
        const { root, raw } = await choose(read, this.#controller.signal)
        if (raw !== undefined) this.#documents.set(root.digest, raw)
        await this.#visit(root, 0)
        this.#meter.phase = 'referrers'
        if (this.#referrers !== undefined) await this.#copyReferrers(root, raw, 0, new Set())
        return root
      })
    } catch {
      await Promise.allSettled(this.#tasks.values())
      throw this.#controller.signal.reason
    } finally {
      unlink()
    }
  }

  /** The first failure of any work aborts all other. */
  async #guard<T>(work: () => Promise<T>): Promise<T> {
    try {
      this.#controller.signal.throwIfAborted()
      return await work()
    } catch (error) {
      this.#controller.abort(error)
      throw error
    }
  }

  /** Waits for a place, unless everything has been aborted meanwhile. */
  async #inPlace<T>(work: () => Promise<T>, places: Semaphore = this.#smallPlaces): Promise<T> {
    return places.run(async () => {
      this.#controller.signal.throwIfAborted()
      return work()
    })
  }

  /** Notes on an error where it happened. What only echoes an abort happened nowhere. */
  async #at<T>(side: CopyFailure['side'], descriptor: Descriptor, work: () => T | Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (!this.#controller.signal.aborted) noteFailure(error, { side, descriptor })
      throw error
    }
  }

  async #read(descriptor: Descriptor, limit: number): Promise<Uint8Array> {
    const { signal } = this.#controller
    const held = this.#documents.get(descriptor.digest)
    if (held !== undefined) return held
    if (!isVerifiable(descriptor.digest)) {
      throw new InvalidDigestError(descriptor.digest, 'a manifest or config is read only when it can be verified')
    }
    const bytes = await this.#inPlace(() =>
      this.#at('source', descriptor, () => readAll(this.#source, descriptor, limit, { signal })),
    )
    this.#documents.set(descriptor.digest, bytes)
    return bytes
  }

  /** Copies a descriptor and all below it; whoever asks for the same one again waits for the same work. */
  #visit(descriptor: Descriptor, depth: number): Promise<void> {
    const node = isNode(descriptor)
    const key = `${node ? 'manifest' : 'blob'} ${descriptor.digest}`
    const known = this.#tasks.get(key)
    if (known !== undefined) return known
    const task = this.#guard(async () => {
      if (this.#tasks.size > maxDescriptors) throw new LimitError('content of one copy', maxDescriptors, 'descriptors')
      if (depth > maxDepth) throw new LimitError(descriptor.digest, maxDepth, 'levels of indexes')
      this.#meter.found(descriptor)
      if (await this.#isThere(descriptor)) this.#meter.skipped(descriptor)
      else if (node) await this.#copyManifest(descriptor, depth)
      else if (await this.#mount(descriptor)) this.#meter.mounted(descriptor)
      else await this.#transfer(descriptor)
    })
    this.#tasks.set(key, task)
    return task
  }

  async #isThere(descriptor: Descriptor): Promise<boolean> {
    if (isForeignLayerType(descriptor.mediaType)) return true
    const { signal } = this.#controller
    return this.#inPlace(() => this.#at('target', descriptor, () => this.#target.exists(descriptor, { signal })))
  }

  async #mount(descriptor: Descriptor): Promise<boolean> {
    const target = this.#target
    const { signal } = this.#controller
    const mount = target.mount?.bind(target)
    if (mount === undefined) return false
    return this.#inPlace(() => this.#at('target', descriptor, () => mount(descriptor, this.#source, { signal })))
  }

  /**
   * Copies what refers to a manifest or index, to the manifests in it, and to those that refer to it.
   * `raw` is the content of an index that the source does not have.
   */
  async #copyReferrers(
    subject: Descriptor,
    raw: Uint8Array | undefined,
    depth: number,
    seen: Set<Digest>,
  ): Promise<void> {
    if (seen.has(subject.digest) || !isNode(subject)) return
    seen.add(subject.digest)
    if (depth > maxReferrerDepth) throw new LimitError(subject.digest, maxReferrerDepth, 'levels of referrers')
    const found = raw === undefined ? await this.#listReferrers(subject) : []
    await Promise.all(found.map((referrer) => this.#visit(referrer, 0)))
    for (const referrer of found) await this.#copyReferrers(referrer, undefined, depth + 1, seen)
    if (!isIndexType(subject.mediaType)) return
    const index = raw ?? (await this.#read(subject, documentLimits.index))
    const parsed = await this.#at('source', subject, () => parseManifestOrIndex(index, subject.mediaType))
    for (const child of successors(parsed)) await this.#copyReferrers(child, undefined, depth, seen)
  }

  async #listReferrers(subject: Descriptor): Promise<readonly Descriptor[]> {
    const { lister, artifactType } = this.#referrers as NonNullable<CopyGraphOptions['referrers']>
    const { signal } = this.#controller
    return this.#inPlace(() =>
      this.#at('source', subject, async () => {
        const found: Descriptor[] = []
        for await (const referrer of lister.referrers(subject, { artifactType, signal })) {
          found.push(referrer)
          if (found.length > maxDescriptors) throw new LimitError(subject.digest, maxDescriptors, 'referrers')
        }
        return found
      }),
    )
  }

  async #copyManifest(descriptor: Descriptor, depth: number): Promise<void> {
    this.#manifestBytes += descriptor.size
    if (this.#manifestBytes > maxManifestBytes) {
      throw new LimitError('manifests of one copy', maxManifestBytes, 'bytes')
    }
    const { mediaType } = descriptor
    const raw = await this.#read(descriptor, isIndexType(mediaType) ? documentLimits.index : documentLimits.manifest)
    const children = await this.#at('source', descriptor, () => successors(parseManifestOrIndex(raw, mediaType)))
    this.#onManifest?.(descriptor, raw)
    await Promise.all(children.map((child) => this.#visit(child, depth + 1)))
    await this.#transfer(descriptor)
  }

  async #transfer(descriptor: Descriptor): Promise<void> {
    const { signal } = this.#controller
    const embedded = await this.#at('source', descriptor, () => embeddedContent(descriptor))
    const bytes = this.#documents.get(descriptor.digest) ?? embedded
    const transfer = async (): Promise<void> => {
      const meter = this.#meter.started(descriptor)
      if (bytes === undefined) await this.#stream(descriptor, meter)
      else {
        const onRetry = (): void => meter.retry()
        await this.#at('target', descriptor, () => this.#target.push(descriptor, bytes, { signal, onRetry }))
      }
      meter.done()
    }
    await this.#inPlace(transfer, bytes === undefined ? this.#places : this.#smallPlaces)
    this.#documents.delete(descriptor.digest)
  }

  async #stream(descriptor: Descriptor, meter: TransferMeter): Promise<void> {
    const { signal } = this.#controller
    const onRetry = (): void => meter.retry()
    const onBytes = (bytes: number): void => meter.add(bytes)
    let side: CopyFailure['side'] = 'target'
    const open = async (offset: number): Promise<Readable> => {
      const options = { offset, signal, onRetry }
      const source = await this.#at('source', descriptor, () => this.#source.fetch(descriptor, options))
      return source.once('error', () => {
        side = 'source'
      })
    }
    try {
      if (this.#target.receive !== undefined) {
        const onResume = (bytes: number): void => meter.resume(bytes)
        await this.#target.receive(descriptor, open, { signal, onRetry, onBytes, onResume })
      } else await this.#push(descriptor, verified(descriptor, await open(0), { signal, onBytes }), { signal, onRetry })
    } catch (error) {
      if (isMismatch(error)) side = 'source'
      if (!signal.aborted) noteFailure(error, { side, descriptor })
      throw error
    }
  }

  async #push(descriptor: Descriptor, content: Readable, options: ContentOptions): Promise<void> {
    try {
      await this.#target.push(descriptor, content, options)
    } finally {
      content.destroy()
    }
  }
}

function isNode({ mediaType }: Descriptor): boolean {
  return isManifestType(mediaType) || isIndexType(mediaType)
}

/** What the verified stream says when the source's content is not what was announced. */
function isMismatch(error: unknown): boolean {
  return error instanceof SizeMismatchError || error instanceof DigestMismatchError
}
