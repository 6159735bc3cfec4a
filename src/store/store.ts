import { chmod, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import type { ContentOptions, ContentStore, FetchOptions } from '../content/interfaces.ts'
import { LayoutStore, type NamedDescriptor } from '../content/layout.ts'
import { UnsupportedError } from '../errors.ts'
import type { ImageConfig } from '../image/config.ts'
import type { Descriptor } from '../image/descriptor.ts'
import type { Digest } from '../image/digest.ts'
import type { ImageManifest } from '../image/manifest.ts'
import { fileError } from '../internal/file-error.ts'
import type { LayerLimits } from '../layer/limits.ts'
import { Layers, type UnpackOptions } from './layers.ts'
import { createLease, type Lease } from './lease.ts'
import { exclusive } from './lock.ts'
import { defaultRoot, type StorePaths, storePaths } from './paths.ts'
import { type UnpackedImage, unpackImage } from './unpack.ts'
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
   * it to the kernel. Either way nothing broken is used: layers that may have been lost in a crash of the
   * machine are unpacked again.
   */
  readonly durability?: 'image' | 'none' | undefined
}

/**
 * Images on disk: blobs and references in an OCI image layout, unpacked layers, and the writable layers of
 * containers. Any number of processes may use it at the same time; one that dies leaves nothing that
 * the next one can't tell from what is complete.
 */
export class Store implements ContentStore {
  /** The directory. */
  readonly root: string
  /** The layout that holds blobs and references; other tools may read it too. */
  readonly content: LayoutStore
  readonly #paths: StorePaths
  readonly #layers: Layers
  readonly #writable: WritableLayers
  readonly #durability: 'image' | 'none'

  private constructor(paths: StorePaths, content: LayoutStore, options: StoreOptions) {
    this.root = paths.root
    this.content = content
    this.#paths = paths
    this.#layers = new Layers(paths, content, options.limits)
    this.#writable = new WritableLayers(paths, this.#layers)
    this.#durability = options.durability ?? 'image'
  }

  /** See {@link openStore}. */
  static async open(options: StoreOptions = {}): Promise<Store> {
    options.signal?.throwIfAborted()
    const paths = storePaths(options.root ?? defaultRoot())
    await makeDirectories(paths)
    const sync = options.durability !== 'none'
    const { signal } = options
    if (process.platform !== 'linux')
      return new Store(paths, await LayoutStore.create(paths.content, { sync, signal }), options)
    const lock = exclusive(join(paths.locks, 'index.lock'))
    const content = await LayoutStore.create(paths.content, { sync, signal, lock })
    await reclaim(paths.temporary)
    await reclaim(paths.leases)
    const store = new Store(paths, content, options)
    await store.#writable.reclaim()
    return store
  }

  fetch(descriptor: Descriptor, options?: FetchOptions): Promise<Readable> {
    return this.content.fetch(descriptor, options)
  }

  exists(descriptor: Descriptor, options?: ContentOptions): Promise<boolean> {
    return this.content.exists(descriptor, options)
  }

  push(descriptor: Descriptor, content: Readable | Uint8Array, options?: ContentOptions): Promise<void> {
    return this.content.push(descriptor, content, options)
  }

  resolve(reference: string, options?: ContentOptions): Promise<Descriptor> {
    return this.content.resolve(reference, options)
  }

  tag(descriptor: Descriptor, reference: string, options?: ContentOptions): Promise<void> {
    return this.content.tag(descriptor, reference, options)
  }

  /** Takes a reference away; whether it was there. The content stays. */
  untag(reference: string, options?: ContentOptions): Promise<boolean> {
    return this.content.untag(reference, options)
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
    const image = await unpackImage(this.#layers, manifest, config, options)
    if (this.#durability === 'image') await this.#layers.sync(image.chainIds)
    return image
  }

  /**
   * Makes a writable layer on an unpacked image. It is not mounted: that is done where the container is.
   * @throws ConflictError when there is one of that id. @throws NotFoundError when the image is not unpacked.
   */
  createWritable(chainId: Digest | undefined, options: WritableOptions): Promise<WritableLayer> {
    return this.#writable.create(chainId, options)
  }

  /** Opens a writable layer that was made before, perhaps by another process. @throws NotFoundError */
  openWritable(id: string): Promise<WritableLayer> {
    return this.#writable.open(id)
  }

  /** Keeps content that no reference names yet from being collected. */
  lease(options: ContentOptions = {}): Promise<Lease> {
    return createLease(this.#paths.leases, options.signal)
  }
}

/** Opens a store, and makes it where it is missing. What dead processes have left in it is removed. */
export function openStore(options: StoreOptions = {}): Promise<Store> {
  return Store.open(options)
}

async function makeDirectories({ root, ...parts }: StorePaths): Promise<void> {
  try {
    await mkdir(root, { recursive: true, mode: 0o700 })
    await chmod(root, 0o700)
    for (const part of Object.values(parts)) await mkdir(part, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw fileError(error, 'making a store', root)
  }
}

function assertLinux(feature: string): void {
  if (process.platform === 'linux') return
  throw new UnsupportedError(feature, `this is ${process.platform}, and layers are unpacked by Linux only`)
}
