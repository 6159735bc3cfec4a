import type { Readable } from 'node:stream'
import type {
  CheckOptions,
  CheckReport,
  CreateVolumeOptions,
  DiskUsage,
  ImageSummary,
  ListImagesOptions,
  ListVolumesOptions,
  PruneVolumesOptions,
  PruneVolumesReport,
  RemovedImage,
  RemoveImageOptions,
  RemoveVolumeOptions,
  RepairReport,
  Store,
  StoreOptions,
  Volume,
} from '../store/index.ts'
import { archiveArgument, imageArgument, optionsArgument, textArgument } from './arguments.ts'
import type { Container } from './container.ts'
import type { ContainerSummary } from './detached.ts'
import type { Image } from './image.ts'
import { type ImageVerbs, imageVerbs } from './image-verbs.ts'
import type { ContainerPool, ContainerPoolOptions } from './pool.ts'
import type { PruneOptions, PruneReport } from './prune.ts'
import { type PullOperation, type PullOptions, pullInto } from './pull.ts'
import { type PushOperation, type PushOptions, pushFrom } from './push.ts'
import type { RepairOptions } from './repair.ts'
import { runContainer } from './run.ts'
import type { RunOptions } from './run-options.ts'
import type { ImportVolumeOptions } from './volume-archive.ts'

/** Options of {@link createEngine}. */
export interface EngineOptions {
  /** Directory of images and layers. Default `$OCI_TS_ROOT`, else `/var/lib/oci-ts` or `$XDG_DATA_HOME/oci-ts`. */
  readonly root?: string | undefined
  /** Directory where running containers are recorded. Default `/run/oci-ts` or `$XDG_RUNTIME_DIR/oci-ts`. */
  readonly state?: string | undefined
  /** Further options of the store. */
  readonly store?: Omit<StoreOptions, 'root' | 'signal'> | undefined
}

/** Images and containers in one place on disk, independent of other engines. */
export interface Engine extends ImageVerbs {
  /** See {@link pull}. */
  pull(reference: string, options?: PullOptions): PullOperation
  /** See {@link push}. */
  push(image: Image | string, options?: PushOptions): PushOperation
  /** See {@link run}. */
  run(image: Image | string, options?: RunOptions): Promise<Container>
  /** See {@link createPool}. */
  createPool(image: Image | string, options: ContainerPoolOptions): Promise<ContainerPool>
  /** See {@link attach}. */
  attach(container: string): Promise<Container>
  /** See {@link containers}. */
  containers(): Promise<readonly ContainerSummary[]>
  /** See {@link images}. */
  images(options?: ListImagesOptions): Promise<readonly ImageSummary[]>
  /** See {@link removeImage}. */
  removeImage(image: Image | string, options?: RemoveImageOptions): Promise<RemovedImage>
  /** See {@link tag}. */
  tag(image: Image | string, name: string): Promise<void>
  /** See {@link prune}. */
  prune(options?: PruneOptions): Promise<PruneReport>
  /** See {@link diskUsage}. */
  diskUsage(): Promise<DiskUsage>
  /** See {@link check}. */
  check(options?: CheckOptions): Promise<CheckReport>
  /** See {@link repair}. */
  repair(options?: RepairOptions): Promise<RepairReport>
  /** See {@link volumes}. */
  readonly volumes: EngineVolumes
  /** The store, opened; for what the engine has no verb for. */
  store(): Promise<Store>
}

/** Volumes: files that outlive containers. `run` makes those that it mounts, where they are missing. */
export interface EngineVolumes {
  /**
   * Makes a volume. One of that name that is there already stays as it is. Without a name it is anonymous.
   * @throws InvalidArgumentError for what can't be a name. @throws ConflictError when it is there with other labels.
   */
  create(name?: string, options?: CreateVolumeOptions): Promise<Volume>
  /** The volumes, by name. */
  list(options?: ListVolumesOptions): Promise<readonly Volume[]>
  /** @throws NotFoundError */
  inspect(name: string): Promise<Volume>
  /** Removes a volume with its files. @throws NotFoundError. @throws ConflictError when a container mounts it. */
  remove(name: string, options?: RemoveVolumeOptions): Promise<void>
  /** Removes the volumes that no container mounts, by default only those that nobody has named. */
  prune(options?: PruneVolumesOptions): Promise<PruneVolumesReport>
  /** The files of a volume as a tar archive, with owners and all other attributes. @throws NotFoundError */
  export(name: string): Promise<Readable>
  /**
   * Fills a volume, which is made where it is missing, with what is in a tar archive, plain or compressed by gzip or zstd:
   * all of it or nothing.
   * @throws ConflictError when it is not empty. @throws LayerError for what is no archive.
   */
  import(name: string, archive: Readable | Uint8Array, options?: ImportVolumeOptions): Promise<Volume>
}

/** Makes an engine. Nothing is opened or made before it is used. */
export function createEngine(options: EngineOptions = {}): Engine {
  let opened: Promise<Store> | undefined
  const store = (): Promise<Store> => {
    opened ??= open(options).catch((error: unknown) => {
      opened = undefined // the next call may have more luck
      throw error
    })
    return opened
  }
  optionsArgument(options)
  return {
    pull: (reference, pullOptions = {}) => pullInto(store, reference, pullOptions),
    push: (image, pushOptions = {}) => pushFrom(store, image, pushOptions),
    run: async (image, runOptions = {}) =>
      runContainer({ store, stateRoot: options.state }, imageArgument(image), optionsArgument(runOptions)),
    createPool: async (image, poolOptions) => {
      const { createContainerPool } = await import('./pool.ts')
      return createContainerPool({ store, stateRoot: options.state }, imageArgument(image), poolOptions)
    },
    attach: async (container) => {
      const wanted = textArgument('container', container)
      return (await import('./detached.ts')).attachTo(await store(), wanted)
    },
    containers: async () => (await import('./detached.ts')).listDetached(await store()),
    images: async (listOptions) => (await store()).images(optionsArgument(listOptions)),
    removeImage: async (image, removeOptions) => {
      const { removeImageFrom } = await import('./images.ts')
      return removeImageFrom(await store(), imageArgument(image), optionsArgument(removeOptions))
    },
    tag: async (image, name) => (await import('./images.ts')).tagImage(await store(), imageArgument(image), name),
    prune: async (pruneOptions = {}) =>
      (await import('./prune.ts')).pruneAll(await store(), optionsArgument(pruneOptions)),
    diskUsage: async () => (await store()).diskUsage(),
    check: async (checkOptions) => (await store()).check(optionsArgument(checkOptions)),
    repair: async (repairOptions = {}) =>
      (await import('./repair.ts')).repairStore(await store(), optionsArgument(repairOptions)),
    volumes: {
      create: async (name, createOptions) => (await store()).volumes.create(name, optionsArgument(createOptions)),
      list: async (listOptions) => (await store()).volumes.list(optionsArgument(listOptions)),
      inspect: async (name) => (await store()).volumes.inspect(name),
      remove: async (name, removeOptions) => (await store()).volumes.remove(name, optionsArgument(removeOptions)),
      prune: async (pruneOptions) => (await store()).volumes.prune(optionsArgument(pruneOptions)),
      export: async (name) => (await import('./volume-archive.ts')).exportVolume(await store(), name),
      import: async (name, archive, importOptions = {}) => {
        const { importVolume } = await import('./volume-archive.ts')
        const [to, from] = [textArgument('name', name), archiveArgument(archive)]
        return importVolume(await store(), to, from, optionsArgument(importOptions))
      },
    },
    ...imageVerbs(store),
    store,
  }
}

async function open(options: EngineOptions): Promise<Store> {
  const { openStore } = await import('../store/index.ts')
  return openStore({ ...options.store, root: options.root })
}

let shared: Engine | undefined

/** The engine of the verbs of the front door. @internal */
export function defaultEngine(): Engine {
  shared ??= createEngine()
  return shared
}

/**
 * Pulls an image into the local store: resolves the reference, chooses the image for the platform, fetches
 * and verifies what is missing, unpacks the layers. Await it for the image, iterate it for progress.
 * @throws InvalidReferenceError, NotFoundError, PlatformError, AdmissionError, RegistryError, NetworkError,
 * DigestMismatchError, SizeMismatchError, SpecError, LimitError, LayerError; `signal.reason` when aborted
 */
export function pull(reference: string, options?: PullOptions): PullOperation {
  return defaultEngine().pull(reference, options)
}

/**
 * Pushes an image of the local store to a registry: what is there already is not sent, and what another
 * repository there has is taken over from it. Await it for what was pushed, iterate it for progress.
 * @throws InvalidReferenceError, InvalidArgumentError; NotFoundError when the store has no such image;
 * RegistryError, NetworkError, ProtocolError; `signal.reason` when aborted
 */
export function push(image: Image | string, options?: PushOptions): PushOperation {
  return defaultEngine().push(image, options)
}

/**
 * Runs a container of an image, or of a reference, which is pulled when it is missing. Resolves when its
 * program has been executed or, with `ready`, when it is ready. The container is removed with
 * `remove`, at the end of an `await using`, and, unless it is run with `detach`, when this process ends.
 * @throws RuntimeError naming the step that failed; StartupError when it ends before it is ready;
 * TimeoutError; PlatformError; UnsupportedError; ConflictError for the name of another detached container;
 * what {@link pull} throws. Nothing is left behind.
 */
export function run(image: Image | string, options?: RunOptions): Promise<Container> {
  return defaultEngine().run(image, options)
}

/**
 * Keeps containers of an image ready: layer made and mounted, namespaces and cgroup in place. What a run does is then one
 * batch of system calls; it chooses command, environment, user, directory and streams, all else is the pool's. Killed
 * ones are replaced. Resolves when the first is ready. Nothing of it outlives this process, nor keeps it alive.
 * @throws what {@link run} throws. @throws InvalidArgumentError for options that containers of a pool can't have.
 */
export function createPool(image: Image | string, options: ContainerPoolOptions): Promise<ContainerPool> {
  return defaultEngine().createPool(image, options)
}

/**
 * A handle to a container that was run with `detach`, by this process or another: its log from birth on, its
 * end, `stop`, `remove`.
 * @param container Its id, or its name.
 * @throws NotFoundError when there is none.
 */
export function attach(container: string): Promise<Container> {
  return defaultEngine().attach(container)
}

/** The containers that were run with `detach` and are not removed, running or not, the oldest first. */
export function containers(): Promise<readonly ContainerSummary[]> {
  return defaultEngine().containers()
}

/** The images of the local store: once for each name, and those without one. Signatures and the like are none. */
export function images(options?: ListImagesOptions): Promise<readonly ImageSummary[]> {
  return defaultEngine().images(options)
}

/**
 * Removes an image by Docker's rules: by one of several names it loses that name, and goes with the last one,
 * with everything that no other image needs.
 * @param image A name in any form, or the beginning of an id or digest.
 * @throws NotFoundError. @throws ConflictError when a container uses it, or when it has several names and is given
 * by its id, unless with `force`; when several images begin so.
 */
export function removeImage(image: Image | string, options?: RemoveImageOptions): Promise<RemovedImage> {
  return defaultEngine().removeImage(image, options)
}

/**
 * Gives an image another name. An image that had the name before stays, without it.
 * @param image A name in any form, or the beginning of an id or digest.
 * @throws NotFoundError, ConflictError for the image; InvalidReferenceError, InvalidArgumentError for the name
 */
export function tag(image: Image | string, name: string): Promise<void> {
  return defaultEngine().tag(image, name)
}

/**
 * Removes what is not used any more: detached containers that have ended, images without a name, and all that
 * nothing needs; volumes only when told. Safe beside everything else that goes on. `dryRun` tells first.
 * @throws SpecError when a manifest that is needed can't be read; no image is removed then.
 */
export function prune(options?: PruneOptions): Promise<PruneReport> {
  return defaultEngine().prune(options)
}

/** What images, containers and volumes take on the disk, and what pruning would free. */
export function diskUsage(): Promise<DiskUsage> {
  return defaultEngine().diskUsage()
}

/**
 * Looks for what is wrong with images, layers and containers on disk: every blob is read, every layer unpacked once more
 * and compared file by file. Changes nothing.
 */
export function check(options?: CheckOptions): Promise<CheckReport> {
  return defaultEngine().check(options)
}

/**
 * Repairs what {@link check} finds: blobs are fetched again from the registries that their images are named after,
 * damaged layers unpacked again. The report tells what could not be repaired, and why.
 */
export function repair(options?: RepairOptions): Promise<RepairReport> {
  return defaultEngine().repair(options)
}

/** The volumes of the default engine. */
export const volumes: EngineVolumes = {
  create: (name, options) => defaultEngine().volumes.create(name, options),
  list: (options) => defaultEngine().volumes.list(options),
  inspect: (name) => defaultEngine().volumes.inspect(name),
  remove: (name, options) => defaultEngine().volumes.remove(name, options),
  prune: (options) => defaultEngine().volumes.prune(options),
  export: (name) => defaultEngine().volumes.export(name),
  import: (name, archive, options) => defaultEngine().volumes.import(name, archive, options),
}
