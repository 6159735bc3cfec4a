import type { Digest } from '../image/digest.ts'
import type { ImageNode } from './graph.ts'
import type { WritableRecord } from './writable-record.ts'

/** The ids of the containers that were made of one of the images. */
export function usersOf(images: readonly ImageNode[], containers: readonly WritableRecord[]): readonly string[] {
  const manifests = new Set<Digest>(images.map(({ descriptor }) => descriptor.digest))
  const tops = new Set<Digest | undefined>(images.map(({ chainIds }) => chainIds.at(-1)))
  return containers
    .filter(({ image, chainId }) =>
      // A layer of which nobody has said what image it is for: any of those that have the same layers.
      image === undefined ? chainId !== undefined && tops.has(chainId) : manifests.has(image),
    )
    .map(({ id }) => id)
}
