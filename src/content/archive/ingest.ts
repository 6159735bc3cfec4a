import { Readable } from 'node:stream'
import { ArchiveError, LimitError } from '../../errors.ts'
import { verifyBytes } from '../../image/descriptor.ts'
import { createDigester, type Digest, digestOf } from '../../image/digest.ts'
import { detectCompression } from '../../internal/compression.ts'
import type { Pusher } from '../interfaces.ts'
import { documentLimits } from '../limits.ts'
import { unknownType } from '../media-type-of.ts'
import { verified } from '../verify.ts'
import { ByteReader } from './byte-reader.ts'
import { decompressed } from './compression.ts'
import type { LayerFile } from './docker.ts'
import { FileSlice } from './file-slice.ts'
import { type ArchiveOptions, EntryCounter } from './limits.ts'
import { digestOfPath, entryPath, isDocument, linkTarget, maxLinks } from './paths.ts'
import { blockSize, padding, readHeader, type TarEntry } from './tar.ts'
import { temporaryFile } from './temporary-file.ts'

/** Bytes of manifests, configs and the like that are held in memory at most, until all has been read. */
const maxHeldBytes = 64 * 2 ** 20

/** Where its digest is not known, a layer is kept in memory up to this size, in a temporary file beyond. */
const maxBufferedLayer = 4 * 2 ** 20

/** Told of each blob that goes to the target; gives who is told of its bytes. */
export type IngestListener = (digest: Digest, size: number) => { add(bytes: number): void; done(): void }

/**
 * Reads an archive as it comes, once: what is surely content goes to the target at once; what may be a
 * manifest, a config or a list is held in memory until all has been seen.
 */
export class Ingest {
  /** Manifests and configs, by digest. */
  readonly documents: Map<Digest, Uint8Array> = new Map()
  readonly #target: Pusher
  readonly #options: ArchiveOptions
  readonly #listener: IngestListener
  readonly #reader: ByteReader
  readonly #files: Map<string, Uint8Array> = new Map()
  readonly #layers: Map<string, LayerFile> = new Map()
  readonly #links: Map<string, TarEntry> = new Map()
  #held = 0

  constructor(source: Readable, target: Pusher, options: ArchiveOptions, listener: IngestListener) {
    this.#target = target
    this.#options = options
    this.#listener = listener
    this.#reader = new ByteReader(decompressed(source))
  }

  /** Reads all of it. */
  async run(): Promise<void> {
    const counter = new EntryCounter(this.#options)
    try {
      for (;;) {
        this.#options.signal?.throwIfAborted()
        const entry = await readHeader(() => this.#reader.block(blockSize))
        if (entry === undefined) break
        const path = entryPath(entry.name)
        counter.count(path, entry)
        this.#reader.enter(entry.size, padding(entry.size))
        if (entry.type === 'file') await this.#take(path, entry)
        else if (entry.type === 'link' || entry.type === 'symlink') this.#links.set(path, entry)
      }
      await this.#reader.drain()
    } finally {
      await this.#reader.close()
    }
  }

  /** Whether there is a file of this path that was held. */
  has(path: string): boolean {
    return this.#files.has(path)
  }

  /** A file that was held, links followed. @throws ArchiveError when it is not there. */
  file(path: string): Uint8Array {
    return this.#follow(this.#files, path)
  }

  /** A layer that has gone to the target, links followed. @throws ArchiveError when it is not there. */
  layer(path: string): LayerFile {
    return this.#follow(this.#layers, path)
  }

  #follow<T>(found: ReadonlyMap<string, T>, path: string): T {
    let current = path
    for (let links = 0; links <= maxLinks; links++) {
      const value = found.get(current)
      if (value !== undefined) return value
      const link = this.#links.get(current)
      if (link === undefined) throw new ArchiveError('it is missing', path)
      current = linkTarget(current, link)
    }
    throw new LimitError(`archive entry ${path}`, maxLinks, 'links')
  }

  async #take(path: string, { name, size }: TarEntry): Promise<void> {
    const limit = isDocument(path) ? documentLimits.index : documentLimits.config
    if (isDocument(path) && size > limit) throw new LimitError(`archive entry ${name}`, limit, 'bytes')
    const head = await this.#reader.peek(4)
    const compression = detectCompression(head)
    const digest = digestOfPath(path)
    if (digest !== undefined) this.#layers.set(path, { digest, size, compression })
    if (size <= limit && (isDocument(path) || isJsonStart(head))) return this.#hold(path, digest)
    if (digest !== undefined) return this.#send(digest, size)
    if (!/\.tar(?:\.gz|\.zst)?$/.test(path)) return
    this.#layers.set(path, { digest: await this.#sendLayer(path, size), size, compression })
  }

  async #hold(path: string, digest: Digest | undefined): Promise<void> {
    const bytes = await this.#reader.bytes()
    this.#held += bytes.byteLength
    if (this.#held > maxHeldBytes) throw new LimitError('manifests and configs of an archive', maxHeldBytes, 'bytes')
    this.#files.set(path, bytes)
    if (digest === undefined) return
    verifyBytes({ mediaType: unknownType, digest, size: bytes.byteLength }, bytes)
    this.documents.set(digest, bytes)
  }

  /**
   * Sends a layer of a Docker archive. A name that is a digest, as skopeo and podman give it, is the
   * digest it must have; else it is known only when all of it has been read.
   */
  async #sendLayer(path: string, size: number): Promise<Digest> {
    const [, hex] = /^([0-9a-f]{64})\.tar(?:\.gz)?$/.exec(path) ?? []
    if (hex !== undefined) {
      await this.#send(`sha256:${hex}`, size)
      return `sha256:${hex}`
    }
    if (size > maxBufferedLayer) return this.#sendFromFile(size)
    const bytes = await this.#reader.bytes()
    const digest = digestOf(bytes)
    await this.#send(digest, size, () => Readable.from([bytes], { objectMode: false }))
    return digest
  }

  async #sendFromFile(size: number): Promise<Digest> {
    const { signal, temporaryDirectory } = this.#options
    const file = await temporaryFile(temporaryDirectory)
    try {
      const digester = createDigester()
      for await (const piece of this.#reader.body()) {
        signal?.throwIfAborted()
        digester.update(piece)
        await file.writeFile(piece)
      }
      const digest = digester.digest()
      await this.#send(digest, size, () => new FileSlice(file, 0, size))
      return digest
    } finally {
      await file.close()
    }
  }

  /** Sends content to the target, unless that has it; without `open`, the content that comes next. */
  async #send(
    digest: Digest,
    size: number,
    open: () => Readable = () => Readable.from(this.#reader.body(), { objectMode: false }),
  ): Promise<void> {
    const { signal } = this.#options
    const descriptor = { mediaType: unknownType, digest, size }
    const meter = this.#listener(digest, size)
    if (!(await this.#target.exists(descriptor, { signal }))) {
      const onBytes = (bytes: number): void => meter.add(bytes)
      await this.#target.push(descriptor, verified(descriptor, open(), { signal, onBytes }), { signal })
    }
    meter.done()
  }
}

function isJsonStart(head: Uint8Array): boolean {
  return head[0] === 0x7b || head[0] === 0x5b
}
