import { utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import type { ContentOptions, ContentStore, FetchOptions, ReceiveOptions, Receiver } from '../content/interfaces.ts'
import { LayoutStore, type NamedDescriptor } from '../content/layout.ts'
import { UnsupportedError } from '../errors.ts'
import { chainIds } from '../image/chain-id.ts'
import type { ImageConfig } from '../image/config.ts'
import type { Descriptor } from '../image/descriptor.ts'
import type { Digest } from '../image/digest.ts'
import type { ImageManifest } from '../image/manifest.ts'
import { oneOf } from '../internal/choice.ts'
import { fileError, hasCode } from '../internal/file-error.ts'
import type { LayerLimits } from '../layer/limits.ts'
import { type CheckContext, type CheckOptions, check } from './check.ts'
import { type DiskUsage, diskUsage } from './disk-usage.ts'
import { EarlySync } from './early-sync.ts'
import type { CheckReport } from './findings.ts'
import type { GarbageContext } from './garbage.ts'
import { Gate } from './gate.ts'
import { ContentGraph } from './graph.ts'
import { imageById } from './image-by-id.ts'
import { type ImageSummary, type ListImagesOptions, listImages } from './images.ts'
import { Layers, type UnpackOptions, type UnpackProgress } from './layers.ts'
import { createLease, type Lease } from './lease.ts'
import { exclusive } from './lock.ts'
import { makeStore } from './make-store.ts'
import { defaultRoot, type StorePaths, storePaths } from './paths.ts'
import { type PruneOptions, type PruneReport, prune } from './prune.ts'
import { type RemovedImage, type RemoveImageOptions, removeImage } from './remove-image.ts'
import { type RepairOptions, type RepairReport, repair } from './repair.ts'
import { probeRootfs, type Rootfs, type RootfsOptions } from './rootfs.ts'
import { syncFileSystem } from './sync.ts'
import { type UnpackedImage, unpackImage } from './unpack.ts'
import { settleUnsynced } from './unsynced.ts'
import { Volumes } from './volumes.ts'
import { reclaim } from './work-directory.ts'
import { type WritableLayer, WritableLayers, type WritableOptions } from './writable.ts'

/** How a store is opened. */
export interface StoreOptions extends ContentOptions {
  /**
   * Its directory; made when it is missing, readable for its owner only. Default: `$OCI_TS_ROOT`, else
   * `/var/lib/oci-ts` for root and `$XDG_DATA_HOME/oci-ts` for others.
   */
  readonly root?: string | undefined
  /** Bounds on layers. */
  readonly limits?: LayerLimits | undefined
  /**
   * When data is put on the disk: `image` (default) waits for it at the end of each operation, `none` leaves
   * it to the kernel. Either way nothing broken is used: after a restart of the machine layers that may have been lost are
   * unpacked again, and blobs read once before they are used.
   */
  readonly durability?: 'image' | 'none' | undefined
  /**
   * How the layers of an image become the root file system of a container: stacked by overlayfs, or copied into a directory
   * for each container, which takes as much room and time as the image has files. `auto` (default) copies where
   * overlayfs can't be mounted; {@link Store.rootfs} and the warnings of such a container tell why.
   */
  readonly rootfs?: 'auto' | 'overlay' | 'copy' | undefined
}

/**
 * Images on disk: blobs and references in an OCI image layout, unpacked layers, and the writable layers of
 * containers. Any number of processes may use it at the same time; one that dies leaves nothing that
 * the next one can't tell from what is complete.
 */
export class Store implements ContentStore, Receiver {
  /** The directory. */
  readonly root: string
  /** The layout that holds blobs and references; other tools may read it too. */
  readonly content: LayoutStore
  readonly volumes: Volumes
  readonly #paths: StorePaths
  readonly #layers: Layers
  readonly #writable: WritableLayers
  readonly #durability: 'image' | 'none'
  readonly #gate: Gate
  readonly #wantedRootfs: 'auto' | 'overlay' | 'copy'
  readonly #rootfs = new Map<boolean, Promise<Rootfs>>()

  private constructor(paths: StorePaths, content: LayoutStore, options: StoreOptions) {
    this.root = paths.root
    this.content = content
    this.#paths = paths
    this.#layers = new Layers(paths, content, () => this.rootfs(), options.limits)
    this.#gate = new Gate(paths.locks)
    this.#durability = options.durability ?? 'image'
    this.volumes = new Volumes(paths, this.#gate, this.#durability === 'image')
    this.#writable = new WritableLayers(paths, this.#layers, this.volumes, this.#gate, this.#durability === 'image')
    this.#wantedRootfs = options.rootfs ?? 'auto'
  }

  /** See {@link openStore}. */
  static async open(options: StoreOptions = {}): Promise<Store> {
    options.signal?.throwIfAborted()
    const { root, durability = 'image', rootfs = 'auto' } = options
    oneOf('durability', durability, ['image', 'none'])
    oneOf('rootfs', rootfs, ['auto', 'overlay', 'copy'])
    const paths = storePaths(root === undefined ? defaultRoot() : root)
    await makeStore(paths)
    const sync = options.durability !== 'none'
    const { signal } = options
    if (process.platform !== 'linux')
      return new Store(paths, await LayoutStore.create(paths.content, { sync, signal }), options)
    const lock = exclusive(join(paths.locks, 'index.lock'))
    const content = await LayoutStore.create(paths.content, { sync, signal, lock })
    const store = new Store(paths, content, options)
    await store.#reclaim()
    await settleUnsynced(paths, content, sync, signal)
    return store
  }

  fetch(descriptor: Descriptor, options?: FetchOptions): Promise<Readable> {
    return this.content.fetch(descriptor, options)
  }

  /**
   * Whether content is there. It then stays for ten minutes at least, even if nothing needs it; a
   * {@link Store.lease} keeps it for as long as it is held.
   */
  async exists(descriptor: Descriptor, options: ContentOptions = {}): Promise<boolean> {
    if (!(await this.content.exists(descriptor, options))) return false
    return this.#gate.shared(() => touch(this.content.blobPath(descriptor.digest)), options.signal)
  }

  /** Content stays for ten minutes at least, even if nothing needs it; with a {@link Store.lease} for longer. */
  async push(descriptor: Descriptor, content: Readable | Uint8Array, options: ContentOptions = {}): Promise<void> {
    if (content instanceof Readable) content.on('error', () => {}) // one that comes before it is read
    if (await this.exists(descriptor, options)) {
      if (content instanceof Readable) content.destroy()
      return
    }
    await this.content.push(descriptor, content, options)
  }

  /** Like {@link Store.push}; what has arrived is not lost when the rest does not come. */
  async receive(
    descriptor: Descriptor,
    open: (offset: number) => Promise<Readable>,
    options: ReceiveOptions = {},
  ): Promise<void> {
    if (!(await this.exists(descriptor, options))) await this.content.receive(descriptor, open, options)
  }

  resolve(reference: string, options?: ContentOptions): Promise<Descriptor> {
    return this.content.resolve(reference, options)
  }

  /**
   * Points a reference at content. What it named before stays as an image without a name, if it has no other:
   * {@link Store.prune} removes those.
   */
  tag(descriptor: Descriptor, reference: string, options: ContentOptions = {}): Promise<void> {
    const { signal } = options
    return this.#gate.shared(() => this.content.tag(descriptor, reference, { signal, keepReplaced: true }), signal)
  }

  /** Lists an image without a name, as one that has lost it: {@link Store.prune} removes it. */
  enlist(descriptor: Descriptor, options: ContentOptions = {}): Promise<void> {
    return this.#gate.shared(() => this.content.enlist(descriptor, options), options.signal)
  }

  /** Takes a reference away; whether it was there. The content stays until {@link Store.prune}. */
  untag(reference: string, options?: ContentOptions): Promise<boolean> {
    return this.content.untag(reference, options)
  }

  /** The images that there are: each name, and images without one. Signatures and the like are none. */
  images(options?: ListImagesOptions): Promise<readonly ImageSummary[]> {
    return listImages(this.content, options)
  }

  /** What takes how much, and what would be freed. Looks at every file of containers and volumes. */
  diskUsage(): Promise<DiskUsage> {
    return diskUsage(this.#garbage(), this.volumes)
  }

  /**
   * What an image stands for, by its name or the beginning of its id or digest: its manifest, or an index.
   * @throws NotFoundError. @throws ConflictError when several begin so.
   */
  async findImage(image: string): Promise<Descriptor> {
    const entries = await this.content.list()
    const named = entries.find(({ reference }) => reference === image)
    return named?.descriptor ?? imageById({ entries, graph: new ContentGraph(this.content) }, image)
  }

  /**
   * Removes an image by its name, or by the beginning of its id or digest, with everything that no other image,
   * container or lease needs. By one of several names it only loses that one.
   * @throws NotFoundError. @throws ConflictError when a container uses it, or when it has several names and is not
   * given by one, unless with `force`; when several images begin so.
   */
  removeImage(image: string, options: RemoveImageOptions = {}): Promise<RemovedImage> {
    return removeImage(this.#garbage(), image, options)
  }

  /**
   * Removes images that no container uses, by default those without a name, and everything that no image, container
   * or lease needs: blobs, unpacked layers, what dead processes have left. Safe beside pulls, unpacking and
   * containers of other processes.
   * @throws SpecError when a manifest that is needed can't be read; nothing is removed then.
   */
  async prune(options: PruneOptions = {}): Promise<PruneReport> {
    assertLinux('pruning')
    if (options.dryRun !== true) await this.#reclaim()
    return prune(this.#garbage(), options)
  }

  /**
   * Looks for what is wrong: blobs that are not what their digests say, layers that are not what their blobs say, and
   * what images and containers need and is not there. Changes nothing; others may go on meanwhile.
   */
  async check(options: CheckOptions = {}): Promise<CheckReport> {
    assertLinux('checking layers')
    return this.#checking(options.signal, (context) => check(context, options))
  }

  /**
   * Repairs what {@link Store.check} finds: fetches blobs again, unpacks layers again, removes damaged blobs that nobody
   * needs, lists the images anew when their list is lost. What can't be repaired stays as it is.
   */
  async repair(options: RepairOptions = {}): Promise<RepairReport> {
    assertLinux('repairing layers')
    return this.#checking(options.signal, (context) => repair(context, options))
  }

  async #checking<T>(signal: AbortSignal | undefined, work: (context: CheckContext) => Promise<T>): Promise<T> {
    const lease = await this.lease({ signal })
    try {
      return await work({ paths: this.#paths, content: this.content, layers: this.#layers, lease })
    } finally {
      await lease.release()
    }
  }

  /** All references and what they point at. */
  references(options?: ContentOptions): Promise<readonly NamedDescriptor[]> {
    return this.content.list(options)
  }

  /**
   * Unpacks the layers of an image that are not unpacked yet, each once for all images that share it,
   * and checks them against the config's DiffIDs. Their blobs must be in the store.
   * A failure leaves the store as it was, but for layers that were complete before it.
   * @throws NotFoundError for a blob that is missing. @throws DigestMismatchError for a layer that is not what the
   * config says. @throws LayerError, LimitError for what can't be unpacked. @throws SyscallError, ENOSPC for example.
   * @throws UnsupportedError on anything but Linux.
   */
  async unpack(manifest: ImageManifest, config: ImageConfig, options: UnpackOptions = {}): Promise<UnpackedImage> {
    options.signal?.throwIfAborted()
    assertLinux('unpacking layers')
    const lease = (await this.#isUnpacked(config)) ? undefined : await this.lease(options)
    try {
      const { digest } = manifest.config
      await lease?.add(...chainIds(config.rootfs.diff_ids), digest, ...manifest.layers.map((layer) => layer.digest))
      if (this.#durability === 'none') return await unpackImage(this.#layers, manifest, config, options)
      const image = await this.#unpackSyncing(manifest, config, options)
      await this.#layers.sync(image.chainIds)
      return image
    } finally {
      await lease?.release()
    }
  }

  async #unpackSyncing(manifest: ImageManifest, config: ImageConfig, options: UnpackOptions): Promise<UnpackedImage> {
    const early = new EarlySync(() => syncFileSystem(this.#paths.root))
    const onProgress = (progress: UnpackProgress): void => {
      early.note(progress)
      options.onProgress?.(progress)
    }
    try {
      return await unpackImage(this.#layers, manifest, config, { ...options, onProgress })
    } finally {
      await early.end()
    }
  }

  async #isUnpacked({ rootfs }: ImageConfig): Promise<boolean> {
    for (const chainId of chainIds(rootfs.diff_ids)) {
      if ((await this.#layers.find(chainId)) === undefined) return false
    }
    return true
  }

  /**
   * Makes a writable layer on an unpacked image. It is not mounted: that is done where the container is.
   * @throws ConflictError when there is one of that id. @throws NotFoundError when the image is not unpacked.
   */
  async createWritable(chainId: Digest | undefined, options: WritableOptions): Promise<WritableLayer> {
    const userNamespace = options.ids !== undefined
    const isAsked = options.rootfs !== undefined || chainId === undefined
    const asked: Rootfs = { kind: options.rootfs ?? 'overlay' }
    const { kind, reason } = isAsked ? asked : await this.rootfs({ userNamespace })
    const layer = await this.#writable.create(chainId, { ...options, rootfs: kind })
    return reason === undefined || layer.copied === undefined ? layer : { ...layer, warnings: [reason] }
  }

  /** How layers become the root of a container here. Tries overlayfs when that is not known yet. */
  rootfs({ userNamespace = false }: RootfsOptions = {}): Promise<Rootfs> {
    if (this.#wantedRootfs !== 'auto') return Promise.resolve({ kind: this.#wantedRootfs })
    const known = this.#rootfs.get(userNamespace)
    if (known !== undefined) return known
    const found = this.#findRootfs(userNamespace)
    this.#rootfs.set(userNamespace, found)
    found.catch(() => this.#rootfs.delete(userNamespace)) // it may be another time
    return found
  }

  async #findRootfs(userNamespace: boolean): Promise<Rootfs> {
    const found = userNamespace ? await this.rootfs() : await probeRootfs(this.#paths)
    return userNamespace && found.kind === 'overlay' ? probeRootfs(this.#paths, true) : found
  }

  /** Opens a writable layer that was made before, perhaps by another process. @throws NotFoundError */
  openWritable(id: string): Promise<WritableLayer> {
    return this.#writable.open(id)
  }

  /**
   * Removes a writable layer with all changes, whatever has become of the layers below; it must not be mounted any more.
   * Idempotent.
   */
  removeWritable(id: string): Promise<void> {
    return this.#writable.remove(id)
  }

  /** Keeps content that no reference names yet from being collected. */
  lease(options: ContentOptions = {}): Promise<Lease> {
    const context = { folder: this.#paths.leases, gate: this.#gate, content: this.#unguarded() }
    return createLease(context, options.signal)
  }

  /** Content as it is, with the gate for names only: a lease keeps the rest. */
  #unguarded(): ContentStore & Receiver {
    const { content } = this
    return {
      fetch: (descriptor, options) => content.fetch(descriptor, options),
      exists: (descriptor, options) => content.exists(descriptor, options),
      push: (descriptor, source, options) => content.push(descriptor, source, options),
      receive: (descriptor, open, options) => content.receive(descriptor, open, options),
      resolve: (reference, options) => content.resolve(reference, options),
      tag: (descriptor, reference, options) => this.tag(descriptor, reference, options),
    }
  }

  #garbage(): GarbageContext {
    return { paths: this.#paths, content: this.content, writable: this.#writable, gate: this.#gate }
  }

  async #reclaim(): Promise<void> {
    await reclaim(this.#paths.temporary)
    await reclaim(this.#paths.leases)
    await this.#writable.reclaim()
  }
}

/**
 * Opens a store, and makes it where it is missing. What dead processes have left in it is removed.
 * @throws ConflictError for the store of another user, also for root. @throws InvalidArgumentError for options that can't be used.
 */
export function openStore(options: StoreOptions = {}): Promise<Store> {
  return Store.open(options)
}

/** Makes a blob young; whether it is still there. */
async function touch(path: string): Promise<boolean> {
  try {
    const now = new Date()
    await utimes(path, now, now)
    return true
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false
    throw fileError(error, 'keeping content', path)
  }
}

function assertLinux(feature: string): void {
  if (process.platform === 'linux') return
  throw new UnsupportedError(feature, `this is ${process.platform}, and layers are unpacked by Linux only`)
}
