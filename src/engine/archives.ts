import { stat } from 'node:fs/promises'
import type { Readable, Writable } from 'node:stream'
import { type LoadedImage, loadArchive } from '../content/archive/load.ts'
import { type ArchiveImage, writeArchive } from '../content/archive/write.ts'
import { type CopyProgress, copy } from '../content/copy.ts'
import type { Pusher, Tagger } from '../content/interfaces.ts'
import { LayoutStore } from '../content/layout.ts'
import { InvalidArgumentError, InvalidReferenceError } from '../errors.ts'
import { parsePlatform } from '../image/platform.ts'
import { formatReference, parseReference, withDefaultTag } from '../image/reference.ts'
import { hasCode } from '../internal/file-error.ts'
import type { Store } from '../store/index.ts'
import type { Image } from './image.ts'
import { listedName } from './images.ts'

/** Options of `save`. */
export interface SaveOptions {
  /** Of the archive as a whole; layers are mostly compressed already. Default `none`. */
  readonly compression?: 'none' | 'gzip' | undefined
  /** `os/architecture[/variant]` of the one image of an index to save. Default all that the name stands for. */
  readonly platform?: string | undefined
  /** Told of every step; begins anew with each image. */
  readonly onProgress?: ((progress: CopyProgress) => void) | undefined
  /** Aborting rejects with `signal.reason`; of a file nothing is left, a stream is destroyed. */
  readonly signal?: AbortSignal | undefined
}

/** Options of `load`. */
export interface LoadOptions {
  /** Names of the images to load, as they are in the archive. Default all that there are. */
  readonly only?: readonly string[] | undefined
  /** `os/architecture[/variant]` of the one image of an index to load. Default all. */
  readonly platform?: string | undefined
  /** Told of every step; begins anew with each image. */
  readonly onProgress?: ((progress: CopyProgress) => void) | undefined
  /** Aborting rejects with `signal.reason`; images that are complete stay. */
  readonly signal?: AbortSignal | undefined
}

/** Writes images to one archive that is both an OCI and a Docker archive. */
export async function saveImages(
  store: Store,
  images: readonly (Image | string)[],
  target: string | Writable,
  { compression, platform, onProgress, signal }: SaveOptions,
): Promise<void> {
  if (images.length === 0) throw new InvalidArgumentError('there is no image to save', { subject: 'images' })
  const chosen = platform === undefined ? {} : { platform: parsePlatform(platform) }
  const list: ArchiveImage[] = []
  for (const image of images) {
    const name = await listedName(store, image)
    const { digest } = typeof image === 'string' ? await store.findImage(name) : image
    const isName = (await store.references({ signal })).some(({ reference }) => reference === name)
    list.push({ source: store, reference: digest, ...chosen, ...(isName ? { as: name } : {}) })
  }
  await writeArchive(target, list, { compression, onProgress, signal })
}

/** Reads images from an archive of either kind, or a directory with an image layout. */
export async function loadImages(
  store: Store,
  source: string | Readable,
  { only, platform, onProgress, signal }: LoadOptions,
): Promise<readonly LoadedImage[]> {
  await using lease = await store.lease({ signal })
  const { content } = lease
  const names = new Map<string, string>()
  const target: Pusher & Tagger = {
    exists: (descriptor, options) => content.exists(descriptor, options),
    push: (descriptor, bytes, options) => content.push(descriptor, bytes, options),
    tag: (descriptor, name, options) => {
      names.set(name, canonical(name))
      return content.tag(descriptor, canonical(name), options)
    },
  }
  const options = { onProgress, signal, ...(platform === undefined ? {} : { platform: parsePlatform(platform) }) }
  const loaded =
    typeof source === 'string' && (await isDirectory(source))
      ? await loadLayout(source, target, only, options)
      : await loadArchive(source, target, { ...options, only })
  const images: LoadedImage[] = []
  for (const { reference, descriptor } of loaded) {
    if (reference === undefined) await store.enlist(descriptor, { signal })
    images.push({ reference: reference === undefined ? undefined : (names.get(reference) ?? reference), descriptor })
  }
  return images
}

async function loadLayout(
  path: string,
  target: Pusher & Tagger,
  only: readonly string[] | undefined,
  options: Parameters<typeof copy>[3],
): Promise<readonly LoadedImage[]> {
  const layout = await LayoutStore.open(path)
  const wanted =
    only === undefined
      ? await layout.list()
      : await Promise.all(only.map(async (reference) => ({ reference, descriptor: await layout.resolve(reference) })))
  const loaded: LoadedImage[] = []
  for (const { reference, descriptor } of wanted) {
    const as = reference === undefined ? {} : { as: reference }
    loaded.push({ reference, descriptor: await copy(layout, descriptor.digest, target, { ...options, ...as }) })
  }
  return loaded
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory()
  } catch (error) {
    if (hasCode(error, 'ENOENT') || hasCode(error, 'ENOTDIR')) return false
    throw error
  }
}

/** Names of layouts may be any text; those that are no references stay what they are. */
function canonical(name: string): string {
  try {
    return formatReference(withDefaultTag(parseReference(name)))
  } catch (error) {
    if (error instanceof InvalidReferenceError) return name
    throw error
  }
}
