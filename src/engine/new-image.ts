import { changeConfig } from '../build/config-changes.ts'
import { InvalidArgumentError, LimitError } from '../errors.ts'
import type { HistoryEntry, ImageConfig } from '../image/config.ts'
import { type Descriptor, descriptorOf } from '../image/descriptor.ts'
import type { Digest } from '../image/digest.ts'
import { mediaType } from '../image/media-type.ts'
import { formatReference, parseReference, withDefaultTag } from '../image/reference.ts'
import { type CompressOptions, packLayer } from '../layer/compress.ts'
import type { Lease, Store } from '../store/index.ts'
import { type Image, readImage } from './image.ts'

/** What is said of an image that is made. */
export interface NewImageOptions extends CompressOptions {
  /** Its name. Default none: then the image is known by its id, and `prune` removes it. */
  readonly name?: string | undefined
  /** Who made it. */
  readonly author?: string | undefined
  /** Comment in its history. */
  readonly message?: string | undefined
  /**
   * Instructions of a Dockerfile that change its config, one after the other: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD,
   * SHELL, STOPSIGNAL, USER, VOLUME, WORKDIR.
   */
  readonly changes?: readonly string[] | undefined
  /**
   * When it was made; files of its new layer that are younger get that time. With it the same files make the same image.
   * Default `$SOURCE_DATE_EPOCH` where that is set; else now, and files keep their times.
   */
  readonly created?: Date | undefined
  /** Aborting rejects with `signal.reason`; no image is made then. */
  readonly signal?: AbortSignal | undefined
}

/** A layer that is in the store. */
export interface NewLayer {
  readonly descriptor: Descriptor
  readonly diffId: Digest
}

/** Time of an image that is made, and the latest one that its files may have, in seconds. */
export interface ImageTime {
  readonly created: string
  readonly latest: number | undefined
}

/** Checks what can be checked before anything is done. @throws InvalidArgumentError, InvalidReferenceError */
export function imageTime({ created }: Pick<NewImageOptions, 'created'>): ImageTime {
  const { SOURCE_DATE_EPOCH: epoch } = process.env
  const fixed = created ?? (epoch === undefined || epoch === '' ? undefined : fromEpoch(epoch))
  if (fixed !== undefined && Number.isNaN(fixed.getTime())) {
    throw new InvalidArgumentError('created must be a time', { subject: 'created' })
  }
  const time = (fixed ?? new Date()).toISOString()
  return { created: time, latest: fixed === undefined ? undefined : Math.floor(fixed.getTime() / 1000) }
}

function fromEpoch(text: string): Date {
  if (/^\d{1,12}$/.test(text)) return new Date(Number(text) * 1000)
  throw new InvalidArgumentError(`SOURCE_DATE_EPOCH must be a number of seconds, not ${JSON.stringify(text)}`, {
    subject: 'SOURCE_DATE_EPOCH',
  })
}

/** The canonical name; undefined for none. @throws InvalidReferenceError, InvalidArgumentError */
export function imageName(name: string | undefined): string | undefined {
  if (name === undefined) return undefined
  const reference = parseReference(name)
  if (reference.digest !== undefined) {
    throw new InvalidArgumentError(`${JSON.stringify(name)} can't be a name to give: it has a digest`, {
      subject: 'name',
    })
  }
  return formatReference(withDefaultTag(reference))
}

/** Compresses an archive into the store, where the lease keeps it. */
export async function storeLayer(
  store: Store,
  lease: Lease,
  archive: AsyncIterable<Buffer>,
  options: CompressOptions & { readonly signal?: AbortSignal | undefined },
): Promise<NewLayer> {
  const packed = packLayer(archive, options)
  const { signal } = options
  const keep = (digest: Digest): Promise<void> => lease.add(digest)
  const descriptor = await store.content.add(packed.mediaType, packed.blob, { signal, keep })
  return { descriptor, diffId: packed.summary().diffId }
}

/** An image before it is written. */
export interface ImageDraft {
  readonly config: Omit<ImageConfig, 'rootfs' | 'history'>
  readonly history: readonly HistoryEntry[]
  readonly layers: readonly NewLayer[]
  /** Of the manifest. */
  readonly annotations?: Readonly<Record<string, string>> | undefined
}

/** Most bytes of a config, which readers bound too. */
const maxConfig = 8 << 20

/** Writes config and manifest, and lists the image, by its name where it has one. */
export async function storeImage(
  store: Store,
  lease: Lease,
  draft: ImageDraft,
  options: Pick<NewImageOptions, 'name' | 'signal'>,
): Promise<Image> {
  const { signal } = options
  const name = imageName(options.name)
  const rootfs = { type: 'layers', diff_ids: draft.layers.map(({ diffId }) => diffId) }
  const config = Buffer.from(JSON.stringify({ ...draft.config, rootfs, history: draft.history }))
  if (config.length > maxConfig) throw new LimitError('the config of the image', maxConfig, 'bytes')
  const described = descriptorOf(mediaType.ociConfig, config)
  const document = {
    schemaVersion: 2,
    mediaType: mediaType.ociManifest,
    config: described,
    layers: draft.layers.map(({ descriptor }) => descriptor),
    ...(draft.annotations === undefined ? {} : { annotations: draft.annotations }),
  }
  const raw = Buffer.from(JSON.stringify(document))
  const manifest = descriptorOf(mediaType.ociManifest, raw)
  await lease.content.push(described, config, { signal })
  await lease.content.push(manifest, raw, { signal })
  if (name === undefined) await store.enlist(manifest, { signal })
  else await store.tag(manifest, name, { signal })
  return readImage(store, name ?? manifest.digest, manifest, signal)
}

/** The layers of an image, as parts of an OCI image: of Docker's types only the names differ. */
export function layersOf({ manifest, config }: Image): readonly NewLayer[] {
  return manifest.layers.map((descriptor, index) => ({
    descriptor: { ...descriptor, mediaType: ociTypes.get(descriptor.mediaType) ?? descriptor.mediaType },
    diffId: config.rootfs.diff_ids[index] as Digest,
  }))
}

const ociTypes: ReadonlyMap<string, string> = new Map([
  [mediaType.dockerLayer, mediaType.ociLayer],
  [mediaType.dockerLayerGzip, mediaType.ociLayerGzip],
  [mediaType.dockerLayerZstd, mediaType.ociLayerZstd],
  [mediaType.dockerForeignLayer, mediaType.ociForeignLayer],
  [mediaType.dockerForeignLayerGzip, mediaType.ociForeignLayerGzip],
])

/** A config that goes on from another one. */
export function changedConfig(
  { rootfs: _, history: __, ...config }: ImageConfig,
  { changes = [], author }: Pick<NewImageOptions, 'changes' | 'author'>,
  { created }: ImageTime,
): ImageDraft['config'] {
  return {
    ...config,
    created,
    ...(author === undefined ? {} : { author }),
    config: changeConfig(config.config ?? {}, changes),
  }
}

/** The history of an image, with an empty entry for each layer that it does not tell of: what comes next is about the next one. */
export function wholeHistory({ config, manifest }: Image): readonly HistoryEntry[] {
  const { history = [] } = config
  const told = history.filter((entry) => entry.empty_layer !== true).length
  return [...history, ...Array.from({ length: Math.max(0, manifest.layers.length - told) }, () => ({}))]
}

/** The entry of the history for what is being made. */
export function historyEntry(
  createdBy: string,
  { author, message }: Pick<NewImageOptions, 'author' | 'message'>,
  { created }: ImageTime,
): HistoryEntry {
  return {
    created,
    created_by: createdBy,
    ...(author === undefined ? {} : { author }),
    ...(message === undefined ? {} : { comment: message }),
  }
}
