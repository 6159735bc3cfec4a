import type { Collected, ImageFilters, ImageSummary, PruneOptions as PruneStoreOptions, Store } from '../store/index.ts'
import { attachTo, listDetached } from './detached.ts'

/** What {@link prune} removes. */
export interface PruneOptions extends PruneStoreOptions {
  /**
   * Whether detached containers go that have ended, with their logs. Default true. In a dry run what they use counts as
   * used.
   */
  readonly containers?: boolean | undefined
  /**
   * Which volumes go that no container mounts: `none` (default), `anonymous` those that nobody has named, `all`.
   */
  readonly volumes?: 'none' | 'anonymous' | 'all' | undefined
  /** For images and volumes; `until` for images and containers. */
  readonly filters?: ImageFilters | undefined
}

/** What pruning removed, or would remove. */
export interface PruneReport extends Collected {
  /** Ids. */
  readonly containers: readonly string[]
  readonly images: readonly ImageSummary[]
  /** Names. */
  readonly volumes: readonly string[]
  /** Bytes: of blobs as they are, of layers as they are in an archive, of volumes on the disk. */
  readonly freed: number
}

/** Removes what is not used any more: containers first, because they use the rest. */
export async function pruneAll(store: Store, options: PruneOptions): Promise<PruneReport> {
  const { containers: withContainers = true, volumes: which = 'none', ...rest } = options
  const { dryRun = false, filters = {}, signal } = rest
  const containers = withContainers ? await pruneContainers(store, filters.until, dryRun, signal) : []
  const { until: _, ...labels } = filters
  const pruned = { volumes: [] as readonly string[], freed: 0 }
  if (which !== 'none')
    Object.assign(pruned, await store.volumes.prune({ ...labels, all: which === 'all', dryRun, signal }))
  const collected = await store.prune(rest)
  return { ...collected, containers, volumes: pruned.volumes, freed: collected.freed + pruned.freed }
}

async function pruneContainers(
  store: Store,
  until: Date | undefined,
  dryRun: boolean,
  signal: AbortSignal | undefined,
): Promise<readonly string[]> {
  const removed: string[] = []
  for (const { id, status, created } of await listDetached(store)) {
    if (status !== 'stopped' || (until !== undefined && created >= until)) continue
    signal?.throwIfAborted()
    if (!dryRun) await (await attachTo(store, id)).remove()
    removed.push(id)
  }
  return removed
}
