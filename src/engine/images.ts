import { InvalidArgumentError, InvalidReferenceError, NotFoundError } from '../errors.ts'
import { formatReference, parseReference, withDefaultTag } from '../image/reference.ts'
import { quote } from '../internal/text.ts'
import type { RemovedImage, RemoveImageOptions, Store } from '../store/index.ts'
import type { Image } from './image.ts'

/**
 * Removes an image by a name in any form, or by the beginning of its id or digest; see {@link Store.removeImage}.
 */
export async function removeImageFrom(
  store: Store,
  image: Image | string,
  options?: RemoveImageOptions,
): Promise<RemovedImage> {
  return store.removeImage(await listedName(store, image), options)
}

/**
 * Gives an image another name.
 * @param image A name in any form, or the beginning of an id or digest.
 * @param name The new name. What had it before keeps none.
 */
export async function tagImage(store: Store, image: Image | string, name: string): Promise<void> {
  const reference = parseReference(name)
  if (reference.digest !== undefined) {
    throw new InvalidArgumentError(`${quote(name)} can't be a name to give: it has a digest`, { subject: 'name' })
  }
  const descriptor = await store.findImage(await listedName(store, image))
  await store.tag(descriptor, formatReference(withDefaultTag(reference)))
}

/** The name by which the store lists an image, whatever form it was given in; else what was given. */
export async function listedName(store: Store, wanted: Image | string): Promise<string> {
  const image = typeof wanted === 'string' ? wanted : wanted.reference
  if (typeof image !== 'string' || image === '') {
    throw new InvalidArgumentError('an image must be given by name, id or digest', { subject: 'image' })
  }
  const names = new Set((await store.references()).map(({ reference }) => reference))
  if (names.has(image)) return image
  const canonical = canonicalName(image)
  if (canonical !== undefined && names.has(canonical)) return canonical
  // Anything but the beginning of an id or digest would be said to be missing; here with the name it was looked for by.
  if (canonical !== undefined && !/^(sha256:)?[0-9a-f]{4,}$/.test(image)) {
    throw new NotFoundError(image, `there is no image ${quote(canonical)}`)
  }
  return image
}

function canonicalName(image: string): string | undefined {
  try {
    return formatReference(withDefaultTag(parseReference(image)))
  } catch (error) {
    if (error instanceof InvalidReferenceError) return undefined
    throw error
  }
}
