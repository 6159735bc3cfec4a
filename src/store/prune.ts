import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { NamedDescriptor } from '../content/layout.ts'
import { isDigest } from '../image/digest.ts'
import { type Duration, toMilliseconds } from '../internal/units.ts'
import { usersOfLayers } from './check-layers.ts'
import { type Collected, collectGarbage, type GarbageContext, type StoreView } from './garbage.ts'
import { type ImageSummary, imagesOf, readable, summary } from './images.ts'
import { usersOf } from './in-use.ts'
import { hasLabels, type LabelFilters } from './labels.ts'
import { removeTree } from './remove-tree.ts'

/** Which images are pruned; each filter leaves some of them out. */
export interface ImageFilters extends LabelFilters {
  /** Only images that were built before this moment; those that do not say stay. */
  readonly until?: Date | undefined
}

/** How a store is pruned. */
export interface PruneOptions {
  /**
   * Which images go that no container uses: `dangling` (default) those without a name, `unused` those with a name
   * too, `none` none.
   */
  readonly images?: 'dangling' | 'unused' | 'none' | undefined
  readonly filters?: ImageFilters | undefined
  /** Only say what would be removed. Default false. */
  readonly dryRun?: boolean | undefined
  /**
   * How long content stays that nothing needs and that never had a name: a tool that knows no leases may be about
   * to name it. Default 10 minutes.
   */
  readonly grace?: Duration | undefined
  readonly signal?: AbortSignal | undefined
}

/** What pruning removed, or would remove. */
export interface PruneReport extends Collected {
  readonly images: readonly ImageSummary[]
}

/** Removes images as the options say, and all that no image, container or lease needs. */
export async function prune(context: GarbageContext, options: PruneOptions): Promise<PruneReport> {
  const { images: which = 'dangling', filters = {}, dryRun = false, signal } = options
  let images: readonly ImageSummary[] = []
  const collected = await collectGarbage(
    context,
    async (view) => {
      const chosen = which === 'none' ? [] : await unused(view, which, filters)
      images = chosen.flatMap(([, summaries]) => summaries)
      return { entries: new Set(chosen.map(([entry]) => entry)) }
    },
    { grace: toMilliseconds(options.grace ?? '10m', 'grace'), dryRun, signal },
  )
  // What dead processes were fetching; they have done so too when the store was opened.
  if (!dryRun) {
    await context.content.removeAbandoned()
    await removeRetired(context)
  }
  return { ...collected, images }
}

type Chosen = readonly [entry: NamedDescriptor, images: readonly ImageSummary[]]

async function unused(
  view: StoreView,
  which: 'dangling' | 'unused',
  filters: ImageFilters,
): Promise<readonly Chosen[]> {
  const chosen: Chosen[] = []
  for (const entry of view.entries) {
    if (which === 'dangling' && entry.reference !== undefined) continue
    const nodes = await readable(() => imagesOf(view.graph, entry))
    if (nodes.length === 0 || usersOf(nodes, view.containers).length > 0) continue
    const summaries = nodes.map((node) => summary(entry, node))
    if (summaries.every((image) => passes(image, filters))) chosen.push([entry, summaries])
  }
  return chosen
}

function passes({ created, labels }: ImageSummary, { until, ...filters }: ImageFilters): boolean {
  if (until !== undefined && (created === undefined || created >= until)) return false
  return hasLabels(labels, filters)
}

/** Removes layers that have been replaced, when no container is left that may run on one. */
async function removeRetired({ paths, writable }: GarbageContext): Promise<void> {
  const names = await readdir(paths.retired)
  if (names.length === 0) return
  const users = usersOfLayers(await writable.records())
  for (const name of names) {
    const [chainId = ''] = name.split('.')
    if (!isDigest(chainId) || !users.has(chainId)) await removeTree(join(paths.retired, name))
  }
}
