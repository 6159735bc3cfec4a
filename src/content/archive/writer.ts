import { Readable, type Writable } from 'node:stream'
import { InvalidArgumentError, NotFoundError } from '../../errors.ts'
import { type Descriptor, verifyBytes } from '../../image/descriptor.ts'
import { type Digest, digestAlgorithm, parseDigest } from '../../image/digest.ts'
import type { ImageIndex } from '../../image/image-index.ts'
import { layoutVersion } from '../../image/layout-header.ts'
import { type ImageManifest, parseManifestOrIndex } from '../../image/manifest.ts'
import { isConfigType, mediaType } from '../../image/media-type.ts'
import { hostPlatform, selectManifest } from '../../image/platform.ts'
import { Semaphore } from '../../internal/semaphore.ts'
import type { ContentOptions, Pusher, Tagger } from '../interfaces.ts'
import { documentLimits } from '../limits.ts'
import { assertName } from '../name.ts'
import { withName } from '../named.ts'
import { mayRefer, referrerOf } from '../referrer.ts'
import { readAll, verified } from '../verify.ts'
import { formatDockerManifest, type SavedImage } from './docker.ts'
import { type Output, sendTo } from './output.ts'
import { blobPath, documentNames } from './paths.ts'
import { type TarWriter, writeTar } from './tar.ts'

/** Options of {@link ArchiveWriter.create}. */
export interface ArchiveWriterOptions {
  /** Of the archive as a whole; its layers are mostly compressed already. Default `none`. */
  readonly compression?: 'none' | 'gzip' | undefined
  /** Whether a file is on the disk before it appears; default true. */
  readonly sync?: boolean | undefined
}

/**
 * An archive that is being written: a target for `copy`. It is an OCI archive and, where its images
 * are ones that Docker can load, a Docker archive as well, like those of `docker save` since version
 * 25. The same contents in the same order make the same bytes. Blobs are written one at a time.
 *
 * To be ended with {@link finish}, or given up with {@link destroy}.
 */
export class ArchiveWriter implements Pusher, Tagger, AsyncDisposable {
  readonly #tar: TarWriter
  readonly #output: Output
  readonly #turn: Semaphore = new Semaphore(1)
  readonly #written: Set<Digest> = new Set()
  readonly #folders: Set<string> = new Set()
  /** Manifests and indexes that were written, in order. */
  readonly #nodes: Map<Digest, { readonly descriptor: Descriptor; readonly value: ImageManifest | ImageIndex }> =
    new Map()
  readonly #names: Map<string, Descriptor> = new Map()
  #isOver = false

  private constructor(tar: TarWriter, output: Output) {
    this.#tar = tar
    this.#output = output
  }

  /**
   * Starts an archive in a file, which appears when it is complete, or in a stream, which is ended then.
   * @throws SyscallError when the file can't be made.
   */
  static async create(target: string | Writable, options: ArchiveWriterOptions = {}): Promise<ArchiveWriter> {
    const { compression = 'none', sync = true } = options
    const tar = await writeTar()
    const output = await sendTo(target, tar.output, { compression, sync })
    // Who writes learns of it from the write, who finishes from `finish`.
    output.done.catch((error: unknown) => tar.destroy(error as Error))
    const writer = new ArchiveWriter(tar, output)
    await writer.#file(documentNames.layout, { imageLayoutVersion: layoutVersion })
    return writer
  }

  async exists({ digest }: Descriptor): Promise<boolean> {
    return this.#written.has(digest)
  }

  /**
   * Nothing can be taken back from an archive: when content fails half way, so does the archive, which can
   * then only be destroyed.
   */
  async push(descriptor: Descriptor, content: Readable | Uint8Array, options: ContentOptions = {}): Promise<void> {
    const { signal } = options
    const source = content instanceof Readable ? verified(descriptor, content, { signal }) : content
    try {
      await this.#turn.run(async () => {
        signal?.throwIfAborted()
        this.#assertOpen()
        const digest = parseDigest(descriptor.digest)
        if (this.#written.has(digest)) return
        const bytes = await this.#bytes(descriptor, source)
        await this.#folder('blobs')
        await this.#folder(`blobs/${digestAlgorithm(digest)}`)
        await this.#guard(() => this.#tar.file(blobPath(digest), descriptor.size, bytes ?? (source as Readable)))
        this.#written.add(digest)
        if (bytes !== undefined && mayRefer(descriptor)) this.#note(descriptor, bytes)
      })
    } finally {
      if (source instanceof Readable) source.destroy()
    }
  }

  /** @throws NotFoundError when the content has not been pushed. */
  async tag(descriptor: Descriptor, reference: string): Promise<void> {
    this.#assertOpen()
    assertName(reference)
    if (!this.#written.has(descriptor.digest)) {
      throw new NotFoundError(descriptor.digest, `${descriptor.digest} is not in the archive`)
    }
    this.#names.set(reference, descriptor)
  }

  /** Writes the lists of what there is, and waits until the file or the stream has everything. */
  async finish(): Promise<void> {
    this.#assertOpen()
    this.#isOver = true
    await this.#turn.run(async () => {
      const manifests = this.#entries()
      await this.#file(documentNames.index, { schemaVersion: 2, mediaType: mediaType.ociIndex, manifests })
      const images = this.#dockerImages()
      if (images.length > 0) await this.#file(documentNames.docker, formatDockerManifest(images))
      this.#tar.finish()
    })
    await this.#output.done
  }

  /** Gives the archive up, unless it is finished: of a file nothing is left, a stream is destroyed. */
  async destroy(reason?: unknown): Promise<void> {
    this.#isOver = true
    this.#tar.destroy(reason instanceof Error ? reason : new Error('the archive was given up'))
    await this.#output.done.catch(() => {})
  }

  /** {@link destroy}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.destroy()
  }

  #assertOpen(): void {
    if (this.#isOver) throw new InvalidArgumentError('the archive is finished: nothing can be added')
  }

  /** Manifests are held while they are written, because the lists depend on them. */
  async #bytes(descriptor: Descriptor, source: Readable | Uint8Array): Promise<Uint8Array | undefined> {
    if (!(source instanceof Readable)) {
      verifyBytes(descriptor, source)
      return source
    }
    if (!mayRefer(descriptor)) return undefined
    return readAll({ fetch: async () => source }, descriptor, documentLimits.manifest)
  }

  #note(descriptor: Descriptor, raw: Uint8Array): void {
    const { mediaType, digest, size } = descriptor
    const { value } = parseManifestOrIndex(raw, mediaType)
    const plain = referrerOf(descriptor, raw)?.descriptor ?? { mediaType, digest, size }
    this.#nodes.set(digest, { descriptor: plain, value })
  }

  /** What was named, and what neither has a name nor is part of something that was written. */
  #entries(): readonly Descriptor[] {
    const named = [...this.#names].map(([name, descriptor]) => withName(descriptor, name))
    const parts = new Set(named.map(({ digest }) => digest))
    for (const { value } of this.#nodes.values()) {
      if ('manifests' in value) for (const { digest } of value.manifests) parts.add(digest)
    }
    const others = [...this.#nodes.values()].map(({ descriptor }) => descriptor)
    return [...named, ...others.filter(({ digest }) => !parts.has(digest))]
  }

  /** The images that Docker can load, each with its names: of an index, the one for this machine. */
  #dockerImages(): readonly SavedImage[] {
    const images = new Map<Digest, { image: ImageManifest; names: string[] }>()
    const add = (root: Descriptor, name: string | undefined): void => {
      const [digest, image] = this.#imageOf(root, 0) ?? []
      if (digest === undefined || image === undefined) return
      const known = images.get(digest) ?? { image, names: [] }
      images.set(digest, known)
      if (name !== undefined) known.names.push(name)
    }
    for (const [name, descriptor] of this.#names) add(descriptor, name)
    for (const descriptor of this.#entries()) {
      // What is about something else is no image to load, unless it was given a name.
      if (this.#nodes.get(descriptor.digest)?.value.subject === undefined) add(descriptor, undefined)
    }
    return [...images.values()].map(({ image, names }) => ({
      config: blobPath(image.config.digest),
      layers: image.layers.map(({ digest }) => blobPath(digest)),
      names,
    }))
  }

  #imageOf({ digest }: Descriptor, depth: number): readonly [Digest, ImageManifest] | undefined {
    const value = this.#nodes.get(digest)?.value
    if (value === undefined || depth > 8) return undefined
    if ('manifests' in value) {
      const present = value.manifests.filter((entry) => this.#nodes.has(entry.digest))
      const chosen = selectManifest(present, hostPlatform()) ?? present[0]
      return chosen && this.#imageOf(chosen, depth + 1)
    }
    const isImage = isConfigType(value.config.mediaType)
    return isImage && value.layers.every((layer) => this.#written.has(layer.digest)) ? [digest, value] : undefined
  }

  async #folder(path: string): Promise<void> {
    if (this.#folders.has(path)) return
    this.#folders.add(path)
    await this.#guard(() => this.#tar.directory(`${path}/`))
  }

  async #file(path: string, content: object | string): Promise<void> {
    const bytes = Buffer.from(typeof content === 'string' ? content : JSON.stringify(content))
    await this.#guard(() => this.#tar.file(path, bytes.byteLength, bytes))
  }

  /** When the archive can't take any more, it is because the target failed: that is the error to tell. */
  async #guard(write: () => Promise<void>): Promise<void> {
    const failed = new Promise<never>((_, reject) => {
      this.#output.done.catch(reject)
    })
    await Promise.race([write(), failed])
  }
}
