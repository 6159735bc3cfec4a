import type { DocumentReader } from '../content/copy-graph.ts'
import { selectPlatform } from '../content/select-platform.ts'
import { readAll } from '../content/verify.ts'
import { PlatformError } from '../errors.ts'
import { type ImageConfig, parseImageConfig } from '../image/config.ts'
import type { Descriptor } from '../image/descriptor.ts'
import type { Digest } from '../image/digest.ts'
import { type ImageManifest, parseManifest } from '../image/manifest.ts'
import { formatPlatform, hostPlatform, type Platform, parsePlatform } from '../image/platform.ts'
import { platformMatcher } from '../image/platform-match.ts'
import type { Store } from '../store/index.ts'
import type { UnpackedImage } from '../store/unpack.ts'

/** Bytes of a manifest and of a config; far above what any real image has. */
const manifestLimit = 4 << 20
const configLimit = 8 << 20

/** An image of the local store. */
export interface Image {
  /** Digest of its config, which is what Docker calls the image's id. */
  readonly id: Digest
  /** Digest of its manifest. */
  readonly digest: Digest
  /** Canonical name that it was asked for by, such as `docker.io/library/alpine:3.20`. */
  readonly reference: string
  readonly platform: Platform
  readonly descriptor: Descriptor
  readonly manifest: ImageManifest
  readonly config: ImageConfig
  /** Bytes of its compressed layers. */
  readonly size: number
}

/** Reads the image that `descriptor` (of a manifest) names out of the store. */
export async function readImage(
  store: Store,
  reference: string,
  descriptor: Descriptor,
  signal: AbortSignal | undefined,
): Promise<Image> {
  const read: DocumentReader = (of, limit) => readAll(store, of, limit, { signal })
  return parseImage(read, reference, descriptor, await read(descriptor, manifestLimit))
}

/** {@link readImage} of a manifest that is at hand; `read` gives its config. */
export async function parseImage(
  read: DocumentReader,
  reference: string,
  descriptor: Descriptor,
  raw: Uint8Array,
): Promise<Image> {
  const manifest = parseManifest(raw, descriptor.mediaType).value
  const config = parseImageConfig(await read(manifest.config, configLimit)).value
  const { architecture, os, variant } = config
  return {
    id: manifest.config.digest,
    digest: descriptor.digest,
    reference,
    platform: { architecture, os, ...(variant === undefined ? {} : { variant }) },
    descriptor,
    manifest,
    config,
    size: manifest.layers.reduce((sum, layer) => sum + layer.size, 0),
  }
}

/**
 * The image that `reference`, a canonical name, has in the store.
 * @param platform Chooses from an index. Default that of this machine.
 * @throws NotFoundError when it is not there, or not all of it. @throws PlatformError
 */
export async function findImage(
  store: Store,
  reference: string,
  platform: string | undefined,
  signal: AbortSignal | undefined,
): Promise<Image> {
  const wanted = platform === undefined ? hostPlatform() : parsePlatform(platform)
  const named = await store.resolve(reference, { signal })
  const images = recent.get(store) ?? new Map<string, Image>()
  recent.set(store, images)
  const key = `${reference} ${JSON.stringify(named)} ${formatPlatform(wanted)}`
  const found = images.get(key)
  if (found !== undefined) return found
  const image = await readNamed(store, reference, named, wanted, signal)
  if (image.descriptor.size + image.manifest.config.size > largestRecent) return image
  if (images.size >= mostRecent) images.delete(images.keys().next().value as string)
  images.set(key, image)
  return image
}

/** Images that were found lately: what a digest names never changes. */
const recent = new WeakMap<Store, Map<string, Image>>()
const mostRecent = 16
/** Bytes of the manifest and the config of one that is kept. */
const largestRecent = 64 << 10

async function readNamed(
  store: Store,
  reference: string,
  named: Descriptor,
  wanted: Platform,
  signal: AbortSignal | undefined,
): Promise<Image> {
  const known = new Map<Digest, Uint8Array>()
  const read: DocumentReader = async (descriptor, limit) => {
    const raw = known.get(descriptor.digest) ?? (await readAll(store, descriptor, limit, { signal }))
    known.set(descriptor.digest, raw)
    return raw
  }
  const chosen = await selectPlatform(read, reference, named, wanted)
  return parseImage(read, reference, chosen, await read(chosen, manifestLimit))
}

/** @throws PlatformError when the image is for a platform that this machine can't run. */
export function assertRunnable(image: Image, host: Platform): void {
  if (platformMatcher(host).matches(image.platform)) return
  throw new PlatformError(image.reference, formatPlatform(host), [formatPlatform(image.platform)], {
    hint: 'Pull it for this platform, or run it in a machine of its own.',
  })
}

/** Layers of an image on disk; unpacks those that are not there yet. */
export function unpack(store: Store, image: Image, signal: AbortSignal | undefined): Promise<UnpackedImage> {
  return store.unpack(image.manifest, image.config, { signal })
}
