import { InvalidArgumentError } from '../errors.ts'
import { spawnOwner } from '../layer/apply/target.ts'
import { withContent, writeLayer } from '../layer/diff/layer-stream.ts'
import { LayeredTree } from '../layer/diff/layered-tree.ts'
import { changedEntries, treeEntries } from '../layer/diff/trees.ts'
import type { Store } from '../store/index.ts'
import { imageOf } from './find.ts'
import { type Image, unpack } from './image.ts'
import {
  changedConfig,
  historyEntry,
  imageName,
  imageTime,
  layersOf,
  type NewImageOptions,
  storeImage,
  storeLayer,
} from './new-image.ts'

/** How layers are squashed. */
export interface SquashOptions extends NewImageOptions {
  /** Layers at the bottom that stay as they are, so that images go on sharing them. Default 0: all become one. */
  readonly keep?: number | undefined
  /** Which image of an index: `os/architecture[/variant]`. Default that of this machine. */
  readonly platform?: string | undefined
}

/** Makes an image with the same files in fewer layers. */
export async function squashImage(store: Store, from: Image | string, options: SquashOptions): Promise<Image> {
  const { keep = 0, signal } = options
  signal?.throwIfAborted()
  imageName(options.name)
  const time = imageTime(options)
  const image = await imageOf(store, from, options)
  const layers = layersOf(image)
  if (!Number.isInteger(keep) || keep < 0 || keep > layers.length) {
    throw new InvalidArgumentError(`keep must be 0 to ${layers.length}, the number of layers, not ${keep}`, {
      subject: 'keep',
    })
  }
  const config = changedConfig(image.config, options, time)
  await using lease = await store.lease({ signal })
  await lease.add(image.digest, ...layers.map(({ descriptor }) => descriptor.digest))
  const after = await unpack(store, image, signal)
  const kept = layers.slice(0, keep)
  const before = await unpackFirst(store, image, keep, signal)
  const layer = await storeLayer(store, lease, archiveOf(before, after.layers, time.latest), options)
  const history = [historyEntry(`oci-ts squash of ${layers.length - keep} layers`, options, time)]
  const below = historyOf(image, keep)
  return await storeImage(store, lease, { config, history: [...below, ...history], layers: [...kept, layer] }, options)
}

async function unpackFirst(
  store: Store,
  { manifest, config }: Image,
  keep: number,
  signal: AbortSignal | undefined,
): Promise<readonly string[]> {
  const rootfs = { ...config.rootfs, diff_ids: config.rootfs.diff_ids.slice(0, keep) }
  const part = { ...manifest, layers: manifest.layers.slice(0, keep) }
  return keep === 0 ? [] : (await store.unpack(part, { ...config, rootfs }, { signal })).layers
}

/** History of the first layers, with the steps among them that made none. */
function historyOf({ config }: Image, layers: number): NonNullable<Image['config']['history']> {
  const history = config.history ?? []
  if (layers === 0) return []
  let seen = 0
  const end = history.findIndex((entry) => entry.empty_layer !== true && ++seen === layers)
  return history.slice(0, end + 1)
}

async function* archiveOf(
  before: readonly string[],
  after: readonly string[],
  latest: number | undefined,
): AsyncGenerator<Buffer, void, undefined> {
  const options = latest === undefined ? {} : { latest }
  const reader = await openStack(after)
  try {
    if (before.length === 0) {
      yield* writeLayer(withContent(reader, treeEntries(reader, options)))
      return
    }
    const old = await openStack(before)
    try {
      yield* writeLayer(withContent(reader, changedEntries(old, reader, options)))
    } finally {
      await old.close()
    }
  } finally {
    await reader.close()
  }
}

async function openStack(layers: readonly string[]): Promise<LayeredTree> {
  return LayeredTree.open(await spawnOwner('look at the layers of an image'), layers)
}
