import type { Store, StoreOptions } from '../store/index.ts'
import type { Container } from './container.ts'
import type { ContainerSummary } from './detached.ts'
import type { Image } from './image.ts'
import { type PullOperation, type PullOptions, pullInto } from './pull.ts'
import { runContainer } from './run.ts'
import type { RunOptions } from './run-options.ts'

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
export interface Engine {
  /** See {@link pull}. */
  pull(reference: string, options?: PullOptions): PullOperation
  /** See {@link run}. */
  run(image: Image | string, options?: RunOptions): Promise<Container>
  /** See {@link attach}. */
  attach(container: string): Promise<Container>
  /** See {@link containers}. */
  containers(): Promise<readonly ContainerSummary[]>
  /** The store, opened; for what the engine has no verb for. */
  store(): Promise<Store>
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
  return {
    pull: (reference, pullOptions = {}) => pullInto(store, reference, pullOptions),
    run: (image, runOptions = {}) => runContainer({ store, stateRoot: options.state }, image, runOptions),
    attach: async (container) => (await import('./detached.ts')).attachTo(await store(), container),
    containers: async () => (await import('./detached.ts')).listDetached(await store()),
    store,
  }
}

async function open(options: EngineOptions): Promise<Store> {
  const { openStore } = await import('../store/index.ts')
  return openStore({ ...options.store, root: options.root })
}

let shared: Engine | undefined

function defaultEngine(): Engine {
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
