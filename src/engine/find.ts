import { selectPlatform } from '../content/select-platform.ts'
import { readAll } from '../content/verify.ts'
import type { Descriptor } from '../image/descriptor.ts'
import { hostPlatform, parsePlatform } from '../image/platform.ts'
import type { Store } from '../store/index.ts'
import { type Image, readImage } from './image.ts'
import { listedName } from './images.ts'

/** Which image is meant where a name stands for several. */
export interface FindImageOptions {
  readonly platform?: string | undefined
  readonly signal?: AbortSignal | undefined
}

/**
 * The image that is meant by a name in any form, or by the beginning of an id or digest.
 * @throws NotFoundError, ConflictError, PlatformError
 */
export async function imageOf(
  store: Store,
  image: Image | string,
  { platform, signal }: FindImageOptions = {},
): Promise<Image> {
  if (typeof image !== 'string') return image
  const name = await listedName(store, image)
  const named = await store.findImage(name)
  const wanted = platform === undefined ? hostPlatform() : parsePlatform(platform)
  const read = (descriptor: Descriptor, limit: number): Promise<Uint8Array> =>
    readAll(store, descriptor, limit, { signal })
  return readImage(store, name, await selectPlatform(read, name, named, wanted), signal)
}
