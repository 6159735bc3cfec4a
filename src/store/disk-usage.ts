import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { OciError } from '../errors.ts'
import type { Digest } from '../image/digest.ts'
import { hasCode } from '../internal/file-error.ts'
import type { GarbageContext } from './garbage.ts'
import { ContentGraph, type ImageNode } from './graph.ts'
import { imagesOf, readable } from './images.ts'
import { usersOf } from './in-use.ts'
import { readRecord } from './layer-record.ts'
import { listDigests } from './marks.ts'
import { layerPath } from './paths.ts'
import { prune } from './prune.ts'
import { treeSize } from './tree-size.ts'
import type { Volumes } from './volumes.ts'

/** What an image takes. Blobs count as they are, unpacked layers as they are in an archive. All in bytes. */
export interface ImageUsage {
  /** Digest of its config, which is what Docker calls the image's id. */
  readonly id: Digest
  /** Digest of its manifest. */
  readonly digest: Digest
  readonly names: readonly string[]
  /** All that it consists of. */
  readonly size: number
  /** What no other image has: removing this one frees it. */
  readonly unique: number
  /** What other images have too. */
  readonly shared: number
  /** Ids of the containers that were made of it. */
  readonly usedBy: readonly string[]
}

/** What a container has written to its root file system. */
export interface ContainerUsage {
  readonly id: string
  /** Bytes on the disk. */
  readonly size: number
}

/** What is in a volume. */
export interface VolumeUsage {
  readonly name: string
  readonly anonymous: boolean
  /** Bytes on the disk. */
  readonly size: number
  readonly usedBy: readonly string[]
}

/** What a store takes on the disk, in bytes. What several images share counts once in the totals. */
export interface DiskUsage {
  readonly images: readonly ImageUsage[]
  readonly containers: readonly ContainerUsage[]
  readonly volumes: readonly VolumeUsage[]
  /** All blobs and how many there are. */
  readonly blobs: { readonly count: number; readonly size: number }
  /** All unpacked layers and how many there are. */
  readonly layers: { readonly count: number; readonly size: number }
  readonly total: number
  /** What would be freed: by pruning all images that no container uses; by pruning all volumes that none mounts. */
  readonly reclaimable: { readonly images: number; readonly volumes: number }
}

/** Adds up what everything in a store takes. */
export async function diskUsage(context: GarbageContext, volumes: Volumes): Promise<DiskUsage> {
  const { paths, content, writable } = context
  const blobs = await sizesOf(await listDigests(join(content.path, 'blobs')), (digest) =>
    fileSize(content.blobPath(digest)),
  )
  const layers = await sizesOf(
    await listDigests(paths.layers),
    async (chainId) => (await readRecord(layerPath(paths, chainId)))?.size ?? 0,
  )
  const records = await writable.records()
  const images = await imageUsages(context, blobs, layers)
  const containers: ContainerUsage[] = []
  for (const { id } of records) containers.push({ id, size: await treeSize(join(paths.containers, id)) })
  const inVolumes: VolumeUsage[] = []
  for (const { name, anonymous, path, usedBy } of await volumes.list()) {
    inVolumes.push({ name, anonymous, usedBy, size: await treeSize(path) })
  }
  const all = { blobs: sum([...blobs.values()]), layers: sum([...layers.values()]) }
  return {
    images,
    containers,
    volumes: inVolumes,
    blobs: { count: blobs.size, size: all.blobs },
    layers: { count: layers.size, size: all.layers },
    total: all.blobs + all.layers + sum([...containers, ...inVolumes].map(({ size }) => size)),
    reclaimable: {
      images: await freedByPruning(context),
      volumes: sum(inVolumes.filter(({ usedBy }) => usedBy.length === 0).map(({ size }) => size)),
    },
  }
}

/** Nothing as long as it can't be told what the images need. */
async function freedByPruning(context: GarbageContext): Promise<number> {
  try {
    return (await prune(context, { images: 'unused', dryRun: true })).freed
  } catch (error) {
    if (error instanceof OciError) return 0
    throw error
  }
}

type Sizes = ReadonlyMap<Digest, number>

async function sizesOf(digests: readonly Digest[], size: (digest: Digest) => Promise<number>): Promise<Sizes> {
  const sizes = new Map<Digest, number>()
  for (const digest of digests) sizes.set(digest, await size(digest))
  return sizes
}

async function fileSize(path: string): Promise<number> {
  try {
    return (await stat(path)).size
  } catch (error) {
    // Removed at this moment.
    if (hasCode(error, 'ENOENT')) return 0
    throw error
  }
}

async function imageUsages(
  { content, writable }: GarbageContext,
  blobs: Sizes,
  layers: Sizes,
): Promise<readonly ImageUsage[]> {
  const graph = new ContentGraph(content)
  const nodes = new Map<Digest, ImageNode>()
  const names = new Map<Digest, string[]>()
  for (const entry of await content.list()) {
    for (const node of await readable(() => imagesOf(graph, entry))) {
      const { digest } = node.descriptor
      nodes.set(digest, node)
      names.set(digest, [...(names.get(digest) ?? []), ...(entry.reference === undefined ? [] : [entry.reference])])
    }
  }
  const containers = await writable.records()
  const parts = [...nodes.values()].map((node) => ({ node, ...partsOf(node) }))
  const uses = new Map<Digest, number>()
  for (const { own } of parts) for (const digest of own) uses.set(digest, (uses.get(digest) ?? 0) + 1)
  const sizeOf = (digest: Digest): number => (blobs.get(digest) ?? 0) + (layers.get(digest) ?? 0)
  return parts.map(({ node, own }) => {
    const size = sum(own.map(sizeOf))
    const unique = sum(own.filter((digest) => uses.get(digest) === 1).map(sizeOf))
    const { digest } = node.descriptor
    return {
      id: node.manifest.config.digest,
      digest,
      names: names.get(digest) ?? [],
      size,
      unique,
      shared: size - unique,
      usedBy: usersOf([node], containers),
    }
  })
}

/** Digests of all that an image consists of: blobs and, by their ChainIDs, layers. */
function partsOf({ descriptor, children, chainIds }: ImageNode): { readonly own: readonly Digest[] } {
  return { own: [...new Set([descriptor.digest, ...children.map(({ digest }) => digest), ...chainIds])] }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}
