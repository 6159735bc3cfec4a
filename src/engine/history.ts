import type { HistoryEntry } from '../image/config.ts'
import type { Descriptor } from '../image/descriptor.ts'
import type { Digest } from '../image/digest.ts'
import type { Image } from './image.ts'

/** A step of how an image was made, the first one first. */
export interface HistoryStep {
  readonly created: Date | undefined
  /** The command, as whoever built the image has put it down. */
  readonly createdBy: string
  readonly author: string | undefined
  readonly comment: string | undefined
  /** The layer that it made; undefined for a step that only changed the config. */
  readonly layer: { readonly descriptor: Descriptor; readonly diffId: Digest } | undefined
}

/** The steps by which an image was made; layers that its history does not tell of come last, without a command. */
export function historyOf({ config, manifest }: Image): readonly HistoryStep[] {
  const layers = manifest.layers.map((descriptor, index) => ({
    descriptor,
    diffId: config.rootfs.diff_ids[index] as Digest,
  }))
  const steps = (config.history ?? []).map((entry) =>
    step(entry, entry.empty_layer === true ? undefined : layers.shift()),
  )
  return [...steps, ...layers.map((layer) => step({}, layer))]
}

function step(entry: HistoryEntry, layer: HistoryStep['layer']): HistoryStep {
  const created = entry.created === undefined ? undefined : new Date(entry.created)
  return {
    created: created === undefined || Number.isNaN(created.getTime()) ? undefined : created,
    createdBy: entry.created_by ?? '',
    author: entry.author,
    comment: entry.comment,
    layer,
  }
}
