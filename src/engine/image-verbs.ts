import type { Readable, Writable } from 'node:stream'
import type { LoadedImage } from '../content/archive/load.ts'
import type { Store } from '../store/index.ts'
import type { LoadOptions, SaveOptions } from './archives.ts'
import { containerArgument, imageArgument, optionsArgument, sourceArgument, targetArgument } from './arguments.ts'
import type { CommitOptions } from './commit.ts'
import type { Container } from './container.ts'
import type { ConvertOptions } from './convert.ts'
import type { FindImageOptions } from './find.ts'
import type { HistoryStep } from './history.ts'
import type { Image } from './image.ts'
import type { ImportOptions } from './import.ts'
import type { SquashOptions } from './squash.ts'

/** What an engine does with images beside pulling, pushing and running them. */
export interface ImageVerbs {
  /** See {@link inspect}. */
  inspect(image: string, options?: FindImageOptions): Promise<Image>
  /** See {@link history}. */
  history(image: Image | string, options?: FindImageOptions): Promise<readonly HistoryStep[]>
  /** See {@link commit}. */
  commit(container: Container, options?: CommitOptions): Promise<Image>
  /** See {@link importRootfs}. */
  importRootfs(source: string | Readable, options?: ImportOptions): Promise<Image>
  /** See {@link squash}. */
  squash(image: Image | string, options?: SquashOptions): Promise<Image>
  /** See {@link convert}. */
  convert(image: Image | string, options?: ConvertOptions): Promise<Image>
  /** See {@link save}. */
  save(
    images: Image | string | readonly (Image | string)[],
    target: string | Writable,
    options?: SaveOptions,
  ): Promise<void>
  /** See {@link load}. */
  load(source: string | Readable, options?: LoadOptions): Promise<readonly LoadedImage[]>
}

/** The verbs for the images of a store; what each takes is loaded when it is used. */
export function imageVerbs(store: () => Promise<Store>): ImageVerbs {
  return {
    inspect: async (image, options) =>
      (await import('./find.ts')).imageOf(await store(), imageArgument(image), optionsArgument(options)),
    history: async (image, options) => {
      const [{ imageOf }, { historyOf }] = await Promise.all([import('./find.ts'), import('./history.ts')])
      return historyOf(await imageOf(await store(), imageArgument(image), optionsArgument(options)))
    },
    commit: async (container, options = {}) =>
      (await import('./commit.ts')).commitContainer(containerArgument(container), optionsArgument(options)),
    importRootfs: async (source, options = {}) =>
      (await import('./import.ts')).importImage(await store(), sourceArgument(source), optionsArgument(options)),
    squash: async (image, options = {}) =>
      (await import('./squash.ts')).squashImage(await store(), imageArgument(image), optionsArgument(options)),
    convert: async (image, options = {}) =>
      (await import('./convert.ts')).convertImage(await store(), imageArgument(image), optionsArgument(options)),
    save: async (images, target, options = {}) => {
      const list = Array.isArray(images) ? (images as readonly (Image | string)[]) : [images as Image | string]
      const { saveImages } = await import('./archives.ts')
      const [wanted, to] = [list.map(imageArgument), targetArgument(target)]
      await saveImages(await store(), wanted, to, optionsArgument(options))
    },
    load: async (source, options = {}) =>
      (await import('./archives.ts')).loadImages(await store(), sourceArgument(source), optionsArgument(options)),
  }
}
