import { verified } from '../content/verify.ts'
import { DigestMismatchError } from '../errors.ts'
import type { Descriptor } from '../image/descriptor.ts'
import type { Digest } from '../image/digest.ts'
import { isForeignLayerType } from '../image/media-type.ts'
import type { CompressOptions } from '../layer/compress.ts'
import { type Compression, decompress } from '../layer/decompress.ts'
import type { Lease, Store } from '../store/index.ts'
import { imageOf } from './find.ts'
import type { Image } from './image.ts'
import { imageName, layersOf, type NewImageOptions, type NewLayer, storeImage, storeLayer } from './new-image.ts'

/** What an image is converted to: an OCI image, whose layers have the compression that is asked for. */
export interface ConvertOptions extends CompressOptions, Pick<NewImageOptions, 'name' | 'signal'> {
  /** Default: layers stay as they are, and only Docker's types become those of the OCI. */
  readonly compression?: Compression | undefined
  /** Which image of an index: `os/architecture[/variant]`. Default that of this machine. */
  readonly platform?: string | undefined
}

/** Makes an image with the same files, config and history in another form. */
export async function convertImage(store: Store, from: Image | string, options: ConvertOptions): Promise<Image> {
  const { signal } = options
  signal?.throwIfAborted()
  imageName(options.name)
  const image = await imageOf(store, from, options)
  await using lease = await store.lease({ signal })
  await lease.add(image.digest)
  const layers: NewLayer[] = []
  for (const layer of layersOf(image)) layers.push(await convertLayer(store, lease, layer, options))
  const { rootfs: _, history = [], ...config } = image.config
  return await storeImage(store, lease, { config, history, layers, annotations: image.manifest.annotations }, options)
}

async function convertLayer(store: Store, lease: Lease, layer: NewLayer, options: ConvertOptions): Promise<NewLayer> {
  const { descriptor, diffId } = layer
  const { compression, signal } = options
  // What registries do not hand on is not in the store.
  const keepsForm = compression === undefined || isForeignLayerType(descriptor.mediaType)
  if (keepsForm || compressionOf(descriptor) === compression) return layer
  const blob = verified(descriptor, await store.fetch(descriptor, { signal }), { signal })
  const made = await storeLayer(store, lease, decompress(blob), options)
  if (made.diffId !== diffId) throw new DigestMismatchError(diffId, made.diffId satisfies Digest)
  const { annotations } = descriptor
  return annotations === undefined ? made : { diffId, descriptor: { ...made.descriptor, annotations } }
}

function compressionOf({ mediaType }: Descriptor): string {
  return /\+(gzip|zstd)$/.exec(mediaType)?.[1] ?? 'none'
}
