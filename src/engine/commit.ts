import { ConflictError, NotFoundError, UnsupportedError } from '../errors.ts'
import { withContent, writeLayer } from '../layer/diff/layer-stream.ts'
import { changedEntries } from '../layer/diff/trees.ts'
import { type DiffWarning, upperEntries } from '../layer/diff/upper.ts'
import type { Container } from './container.ts'
import { type ContainerRoot, marksOf, openCopied, openUpper } from './container-root.ts'
import type { Image } from './image.ts'
import {
  changedConfig,
  historyEntry,
  imageName,
  imageTime,
  layersOf,
  type NewImageOptions,
  storeImage,
  storeLayer,
  wholeHistory,
} from './new-image.ts'
import type { Runner } from './runner.ts'

/** How a container becomes an image. */
export interface CommitOptions extends NewImageOptions {
  /**
   * Whether a running container stands still while its files are read. Default true. Where it has no cgroup that can do that,
   * it goes on: an ordinary user's may have none.
   */
  readonly pause?: boolean | undefined
  /** Told of what can't be part of a layer: sockets, names that begin with `.wh.`, attributes with `=` in their name, what went away meanwhile. */
  readonly onWarning?: ((warning: DiffWarning) => void) | undefined
}

/** Makes an image of a container's image, what was given to `run`, and what the container has changed. */
export async function commitContainer(container: Container, options: CommitOptions): Promise<Image> {
  const { runner, image, execution } = container
  const { store } = runner
  const { signal, pause = true, onWarning } = options
  signal?.throwIfAborted()
  imageName(options.name)
  const time = imageTime(options)
  const config = changedConfig({ ...image.config, config: execution }, options, time)
  const root = await runner.root()
  const resume = pause && root.pid !== undefined ? await standStill(runner, signal) : undefined
  await using lease = await store.lease({ signal })
  try {
    const below = layersOf(image)
    await lease.add(...below.map(({ descriptor }) => descriptor.digest))
    const archive = changesOf(root, time.latest, onWarning)
    const layer = await storeLayer(store, lease, archive, options)
    await resume?.()
    const history = [...wholeHistory(image), historyEntry('oci-ts commit', options, time)]
    const { annotations } = image.manifest
    return await storeImage(store, lease, { config, history, layers: [...below, layer], annotations }, options)
  } finally {
    await resume?.()
  }
}

/** Pauses a container. @returns what lets it go on, once; undefined when it can't be paused, or is already. */
async function standStill(runner: Runner, signal: AbortSignal | undefined): Promise<(() => Promise<void>) | undefined> {
  try {
    await runner.live.pause(signal === undefined ? {} : { signal })
  } catch (error) {
    if (error instanceof ConflictError || error instanceof UnsupportedError) return undefined
    throw error
  }
  let resumed: Promise<void> | undefined
  return () => {
    // It may have been killed, or resumed by somebody else.
    resumed ??= runner.live.resume().catch((error: unknown) => {
      if (!(error instanceof ConflictError || error instanceof NotFoundError)) throw error
    })
    return resumed
  }
}

/** The archive of what a container has changed. */
async function* changesOf(
  root: ContainerRoot,
  latest: number | undefined,
  onWarning: CommitOptions['onWarning'],
): AsyncGenerator<Buffer, void, undefined> {
  const warn = onWarning === undefined ? {} : { onWarning }
  const time = latest === undefined ? {} : { latest }
  const copied = await openCopied(root)
  if (copied !== undefined) {
    const { before, after } = copied
    try {
      yield* writeLayer(withContent(after, changedEntries(before, after, { ...time, ...warn }), onWarning))
    } finally {
      await copied.close()
    }
    return
  }
  const reader = await openUpper(root)
  // An ordinary user's process sees the container's ids already.
  const ids = process.geteuid?.() === 0 ? root.ids : undefined
  try {
    const options = { marks: marksOf(root), ...ids, ...time, ...warn }
    yield* writeLayer(withContent(reader, upperEntries(reader, options), onWarning))
  } finally {
    await reader.close()
  }
}
