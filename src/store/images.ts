import type { LayoutStore, NamedDescriptor } from '../content/layout.ts'
import { OciError } from '../errors.ts'
import type { Descriptor } from '../image/descriptor.ts'
import type { Digest } from '../image/digest.ts'
import type { Platform } from '../image/platform.ts'
import { ContentGraph, type ImageNode } from './graph.ts'
import { hasLabels, type LabelFilters } from './labels.ts'

/** An image of the store, once for each of its names; an index has one for each platform that is there. */
export interface ImageSummary {
  /** Undefined for an image that has lost its name to another one, or never had any: it is `dangling`. */
  readonly name: string | undefined
  readonly dangling: boolean
  /** Digest of its config, which is what Docker calls the image's id. */
  readonly id: Digest
  /** Digest of its manifest. */
  readonly digest: Digest
  /** What the name stands for: the manifest, or an index that has it. */
  readonly target: Descriptor
  /** When it was built, as its config says. */
  readonly created: Date | undefined
  /** Bytes of manifest, config and layers, compressed as they are. */
  readonly size: number
  readonly platform: Platform
  readonly labels: Readonly<Record<string, string>>
}

/** Which images are listed. */
export interface ListImagesOptions extends LabelFilters {
  /** Only those without a name (true), or only those with one (false). Default all. */
  readonly dangling?: boolean | undefined
}

/** The images that `index.json` lists, in its order. What can't be read is left out: `check` tells of it. */
export async function listImages(
  content: LayoutStore,
  { dangling, ...labels }: ListImagesOptions = {},
): Promise<readonly ImageSummary[]> {
  const graph = new ContentGraph(content)
  const images: ImageSummary[] = []
  for (const entry of await content.list()) {
    for (const node of await readable(() => imagesOf(graph, entry))) images.push(summary(entry, node))
  }
  return images.filter(
    (image) => (dangling === undefined || image.dangling === dangling) && hasLabels(image.labels, labels),
  )
}

/** The images of an entry; none for a signature or the like, which is about another one. */
export async function imagesOf(graph: ContentGraph, entry: NamedDescriptor): Promise<readonly ImageNode[]> {
  const isAbout = entry.reference === undefined && (await graph.node(entry.descriptor))?.subject !== undefined
  return isAbout ? [] : graph.images(entry.descriptor)
}

export async function readable<T>(read: () => Promise<readonly T[]>): Promise<readonly T[]> {
  try {
    return await read()
  } catch (error) {
    if (error instanceof OciError) return []
    throw error
  }
}

export function summary({ reference, descriptor }: NamedDescriptor, node: ImageNode): ImageSummary {
  const { manifest, config } = node
  const { os, architecture, variant, created } = config
  const built = created === undefined ? undefined : new Date(created)
  return {
    name: reference,
    dangling: reference === undefined,
    id: manifest.config.digest,
    digest: node.descriptor.digest,
    target: descriptor,
    created: built === undefined || Number.isNaN(built.getTime()) ? undefined : built,
    size: node.children.reduce((sum, { size }) => sum + size, node.descriptor.size),
    platform: { os, architecture, ...(variant === undefined ? {} : { variant }) },
    labels: config.config?.Labels ?? {},
  }
}
