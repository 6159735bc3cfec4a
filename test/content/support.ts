import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { gzipSync } from 'node:zlib'
import { MemoryStore } from '../../src/content/memory.ts'
import { type Descriptor, type DescriptorExtra, descriptorOf } from '../../src/image/descriptor.ts'
import { digestOf } from '../../src/image/digest.ts'
import { mediaType } from '../../src/image/media-type.ts'
import { type Platform, parsePlatform } from '../../src/image/platform.ts'

/** A directory for one test, removed when it goes out of scope through `remove`. */
export async function temporaryDirectory(): Promise<{ path: string; remove(): Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'oci-ts-content-'))
  return { path, remove: () => rm(path, { recursive: true, force: true }) }
}

/** Stores bytes and describes them. */
export async function put(
  store: MemoryStore,
  type: string,
  content: Uint8Array | object,
  extra: DescriptorExtra = {},
): Promise<Descriptor> {
  const bytes = content instanceof Uint8Array ? content : Buffer.from(JSON.stringify(content))
  const descriptor = descriptorOf(type, bytes, extra)
  await store.push(descriptor, bytes)
  return descriptor
}

/** What an image made by {@link putImage} consists of. */
export interface TestImage {
  readonly manifest: Descriptor
  readonly config: Descriptor
  readonly layers: readonly Descriptor[]
}

/** An empty tar archive with some bytes of its own behind the end. */
function emptyTar(): Buffer {
  return Buffer.concat([Buffer.alloc(1024), Buffer.alloc(10240 - 1024)])
}

/** Stores an image whose layers are the given bytes; default one layer, an empty archive. */
export async function putImage(
  store: MemoryStore,
  options: { platform?: string; layers?: readonly Uint8Array[]; inIndex?: boolean } = {},
): Promise<TestImage> {
  const platform: Platform = parsePlatform(options.platform ?? 'linux/amd64')
  const contents = options.layers ?? [emptyTar()]
  const layers: Descriptor[] = []
  for (const content of contents) layers.push(await put(store, mediaType.ociLayerGzip, gzipSync(content)))
  const config = await put(store, mediaType.ociConfig, {
    ...platform,
    config: { Cmd: ['sh'], Labels: { random: randomBytes(4).toString('hex') } },
    rootfs: { type: 'layers', diff_ids: contents.map((content) => digestOf(content)) },
  })
  const document = { schemaVersion: 2, mediaType: mediaType.ociManifest, config, layers }
  const extra = options.inIndex === true ? { platform } : {}
  return { manifest: await put(store, mediaType.ociManifest, document, extra), config, layers }
}

/** Stores an index. */
export function putIndex(store: MemoryStore, manifests: readonly Descriptor[]): Promise<Descriptor> {
  return put(store, mediaType.ociIndex, { schemaVersion: 2, mediaType: mediaType.ociIndex, manifests })
}

/** A stream of bytes in pieces of `size`. */
export function inPieces(bytes: Uint8Array, size: number): Readable {
  const pieces: Uint8Array[] = []
  for (let at = 0; at < bytes.byteLength; at += size) pieces.push(bytes.subarray(at, at + size))
  return Readable.from(pieces, { objectMode: false })
}

/** A memory store that records what is asked of it, and can be told to fail or to wait. */
export class RecordingStore extends MemoryStore {
  readonly fetched: string[] = []
  readonly pushed: string[] = []
  active = 0
  mostActive = 0
  /** Called before every fetch and push. */
  before: (verb: 'fetch' | 'push', descriptor: Descriptor, signal?: AbortSignal) => Promise<void> = async () => {}

  override async fetch(
    descriptor: Descriptor,
    options: Parameters<MemoryStore['fetch']>[1] = {},
  ): ReturnType<MemoryStore['fetch']> {
    this.fetched.push(descriptor.digest)
    return this.#counted(async () => {
      await this.before('fetch', descriptor, options.signal)
      return super.fetch(descriptor, options)
    })
  }

  override async push(
    descriptor: Descriptor,
    content: Readable | Uint8Array,
    options: Parameters<MemoryStore['push']>[2] = {},
  ): Promise<void> {
    await this.#counted(async () => {
      await this.before('push', descriptor, options.signal)
      await super.push(descriptor, content, options)
    })
    this.pushed.push(descriptor.digest)
  }

  async #counted<T>(work: () => Promise<T>): Promise<T> {
    this.active++
    this.mostActive = Math.max(this.mostActive, this.active)
    try {
      return await work()
    } finally {
      this.active--
    }
  }
}
