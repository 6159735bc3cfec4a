import { UnsupportedError } from '../errors.ts'
import { chainIds } from '../image/chain-id.ts'
import type { ImageConfig } from '../image/config.ts'
import type { Digest } from '../image/digest.ts'
import { assertLayerCount, type ImageManifest } from '../image/manifest.ts'
import { isLayerType } from '../image/media-type.ts'
import { onAbort } from '../internal/abort.ts'
import { Semaphore } from '../internal/semaphore.ts'
import type { LayerRecord } from './layer-record.ts'
import { type LayerStep, type Layers, skipped, type UnpackOptions } from './layers.ts'

/** An image whose layers are on disk, ready to be stacked. */
export interface UnpackedImage {
  /** Names the stack; undefined for an image without layers. */
  readonly chainId: Digest | undefined
  /** Names the stack up to each layer, the bottom one first. */
  readonly chainIds: readonly Digest[]
  /** Directories for overlayfs, the highest one first. */
  readonly layers: readonly string[]
}

/** Layers that are unpacked at a time: inflating one overlaps with hashing and writing another. */
const atOnce = 2

/** Unpacks what is missing of an image's layers. */
export async function unpackImage(
  layers: Layers,
  manifest: ImageManifest,
  config: ImageConfig,
  options: UnpackOptions,
): Promise<UnpackedImage> {
  const steps = stepsOf(manifest, config)
  const found = await findAll(layers, steps, options)
  if (found !== undefined) return stackOf(found, layers)
  const stop = new AbortController()
  const unlink = onAbort(options.signal, () => stop.abort(options.signal?.reason))
  try {
    const records = await ensureAll(layers, steps, { ...options, signal: stop.signal }, stop)
    return stackOf(records, layers)
  } finally {
    unlink()
  }
}

/** The records when all layers are there, as they are at most starts of a container. */
async function findAll(
  layers: Layers,
  steps: readonly LayerStep[],
  { onProgress }: UnpackOptions,
): Promise<readonly LayerRecord[] | undefined> {
  const found: LayerRecord[] = []
  for (const { chainId } of steps) {
    const record = await layers.find(chainId)
    if (record === undefined) return undefined
    found.push(record)
  }
  found.forEach((record, index) => {
    onProgress?.(skipped((steps[index] as LayerStep).descriptor, record))
  })
  return found
}

/**
 * A failure aborts the others, but not before the layers below are there: those are good, and will be
 * needed again. When this settles none is at work any more.
 */
async function ensureAll(
  layers: Layers,
  steps: readonly LayerStep[],
  options: UnpackOptions,
  stop: AbortController,
): Promise<readonly LayerRecord[]> {
  const places = new Semaphore(atOnce)
  let parent: Promise<unknown> = Promise.resolve()
  const running: Promise<LayerRecord>[] = []
  const failures: Promise<void>[] = []
  for (const step of steps) {
    const below = parent
    // In order, so that a layer that waits for the one below never keeps that one from its place.
    const record = places.run(() => layers.ensure(step, below, options))
    const aborted = record.then(
      () => {},
      async (error: unknown) => {
        await below.catch(() => {})
        stop.abort(error)
      },
    )
    running.push(record)
    failures.push(aborted)
    parent = record
  }
  await Promise.all(failures)
  // What failed in the lowest layer, or the caller's reason.
  stop.signal.throwIfAborted()
  return Promise.all(running)
}

/** The directories of a stack, without those below a layer that hides them. */
export function stackOf(records: readonly LayerRecord[], layers: Layers): UnpackedImage {
  const lowest = records.findLastIndex((record) => record.opaqueRoot)
  const visible = records.slice(Math.max(lowest, 0))
  return {
    chainId: records.at(-1)?.chainId,
    chainIds: records.map((record) => record.chainId),
    layers: visible.map((record) => layers.diffPath(record.chainId)).reverse(),
  }
}

function stepsOf(manifest: ImageManifest, config: ImageConfig): readonly LayerStep[] {
  const diffIds = config.rootfs.diff_ids
  assertLayerCount(manifest, diffIds)
  const chain = chainIds(diffIds)
  return manifest.layers.map((descriptor, index) => {
    if (!isLayerType(descriptor.mediaType)) {
      throw new UnsupportedError(`unpacking ${descriptor.digest}`, `${descriptor.mediaType} is no type of a layer`)
    }
    return {
      descriptor,
      diffId: diffIds[index] as Digest,
      chainId: chain[index] as Digest,
      below: chain.slice(0, index).reverse(),
    }
  })
}
