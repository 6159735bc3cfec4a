import { gzipSync } from 'node:zlib'
import type { Pusher, Tagger } from '../../../src/content/interfaces.ts'
import {
  type Descriptor,
  descriptorOf,
  digestOf,
  type ImageConfig,
  type ImageManifest,
  mediaType,
} from '../../../src/image/index.ts'

/** An image in memory. */
export interface TestImage {
  readonly descriptor: Descriptor
  readonly manifest: ImageManifest
  readonly config: ImageConfig
  readonly blobs: readonly (readonly [Descriptor, Buffer])[]
}

/** An image of layers given as tar archives, the bottom one first. */
export function image(
  layers: readonly Buffer[],
  change: Partial<ImageConfig['rootfs']> = {},
  other: Partial<ImageConfig> = {},
): TestImage {
  const compressed = layers.map((layer) => gzipSync(layer, { level: 1 }))
  const config: ImageConfig = {
    architecture: 'amd64',
    os: 'linux',
    config: { Cmd: ['sh'] },
    rootfs: { type: 'layers', diff_ids: layers.map((layer) => digestOf(layer)), ...change },
    ...other,
  }
  const configBytes = Buffer.from(JSON.stringify(config))
  const manifest: ImageManifest = {
    schemaVersion: 2,
    mediaType: mediaType.ociManifest,
    config: descriptorOf(mediaType.ociConfig, configBytes),
    layers: compressed.map((blob) => descriptorOf(mediaType.ociLayerGzip, blob)),
  }
  const manifestBytes = Buffer.from(JSON.stringify(manifest))
  const descriptor = descriptorOf(mediaType.ociManifest, manifestBytes)
  return {
    descriptor,
    manifest,
    config,
    blobs: [
      ...compressed.map((blob, i) => [manifest.layers[i] as Descriptor, blob] as const),
      [manifest.config, configBytes],
      [descriptor, manifestBytes],
    ],
  }
}

/** Puts an image into a store, and names it. */
export async function put(store: Pusher & Tagger, { descriptor, blobs }: TestImage, reference?: string): Promise<void> {
  for (const [each, bytes] of blobs) await store.push(each, bytes)
  if (reference !== undefined) await store.tag(descriptor, reference)
}
