import { randomUUID } from 'node:crypto'
import { rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { LayoutStore, NamedDescriptor } from '../content/layout.ts'
import { OciError, SpecError } from '../errors.ts'
import type { Descriptor } from '../image/descriptor.ts'
import type { Digest } from '../image/digest.ts'
import { fileError, hasCode } from '../internal/file-error.ts'
import type { Gate } from './gate.ts'
import { ContentGraph } from './graph.ts'
import { readRecord } from './layer-record.ts'
import { leasedDigests } from './lease.ts'
import { describe, listDigests, Marks } from './marks.ts'
import { layerPath, type StorePaths } from './paths.ts'
import { WorkDirectory } from './work-directory.ts'
import type { WritableLayers } from './writable.ts'
import type { WritableRecord } from './writable-record.ts'

/** What garbage is collected from. */
export interface GarbageContext {
  readonly paths: StorePaths
  readonly content: LayoutStore
  readonly writable: WritableLayers
  readonly gate: Gate
}

/** The store at the moment of a collection. */
export interface StoreView {
  readonly entries: readonly NamedDescriptor[]
  readonly containers: readonly WritableRecord[]
  readonly graph: ContentGraph
}

/** What to give up before the rest is collected. */
export interface Release {
  /** Entries of `index.json` to take away. */
  readonly entries: ReadonlySet<NamedDescriptor>
}

/** How garbage is collected. */
export interface CollectOptions {
  /** Collect only what the released entries consisted of. Default false. */
  readonly onlyReleased?: boolean
  /** Age up to which content stays that nothing needs but that never had a name here, in milliseconds. */
  readonly grace: number
  /** Only say what would be done. */
  readonly dryRun: boolean
  readonly signal?: AbortSignal | undefined
}

/** What was collected, or would be. */
export interface Collected {
  readonly blobs: readonly Digest[]
  /** ChainIDs of unpacked layers. */
  readonly layers: readonly Digest[]
  /** Bytes: of blobs as they are, of layers as they are in an archive. */
  readonly freed: number
}

/**
 * Takes entries away as `release` says, and removes everything that nothing needs any more. `release` and the
 * look at what is needed happen while no other process can change that; the removal itself does not.
 * A process that is killed in the middle leaves garbage, nothing worse: what names other content goes first.
 * @throws SpecError, DigestMismatchError, … for a manifest that is needed and can't be read: what it needs is unknown.
 */
export async function collectGarbage(
  context: GarbageContext,
  release: (view: StoreView) => Promise<Release>,
  options: CollectOptions,
): Promise<Collected> {
  const { gate, paths } = context
  const graph = new ContentGraph(context.content)
  // Without the lock, so that all manifests have been read when it is taken; and nothing else in a dry run.
  const foreseen = await plan(context, graph, release, options)
  if (options.dryRun) return foreseen.collected
  options.signal?.throwIfAborted()
  const trash = await WorkDirectory.claim(paths.temporary, `garbage-${randomUUID()}`, options.signal)
  try {
    return await gate.alone(async () => {
      const { collected, unlisted } = await plan(context, graph, release, options)
      options.signal?.throwIfAborted()
      if (unlisted.size > 0)
        await context.content.unlist(({ reference, descriptor }) => unlisted.has(keyOf(reference, descriptor.digest)))
      await moveAway(context, collected, trash.path)
      return collected
    }, options.signal)
  } finally {
    await trash.release()
  }
}

interface Plan {
  readonly collected: Collected
  readonly unlisted: ReadonlySet<string>
}

async function plan(
  context: GarbageContext,
  graph: ContentGraph,
  release: (view: StoreView) => Promise<Release>,
  options: CollectOptions,
): Promise<Plan> {
  const { paths, content, writable } = context
  const entries = await content.list()
  const containers = await writable.records()
  const { entries: released } = await release({ entries, containers, graph })
  const kept = entries.filter((entry) => !released.has(entry))
  const marks = new Marks(paths, content, graph)
  try {
    for (const digest of await leasedDigests(paths.leases)) await marks.digest(digest)
    for (const container of containers) await marks.container(container)
    await marks.entries(kept)
  } catch (error) {
    throw unreadable(error)
  }
  const former = await formerContent(released, kept, graph)
  const isFormer = (digest: Digest): boolean => former.has(digest)
  const judge = new Judge(context, graph, marks, isFormer, options)
  const blobs = await judge.blobs(await listDigests(join(content.path, 'blobs')))
  const layers = await judge.layers(await listDigests(paths.layers))
  const gone = kept.filter(
    ({ reference, descriptor }) => reference === undefined && blobs.some(([digest]) => digest === descriptor.digest),
  )
  return {
    unlisted: new Set([...released, ...gone].map(({ reference, descriptor }) => keyOf(reference, descriptor.digest))),
    collected: {
      blobs: blobs.map(([digest]) => digest),
      layers: layers.map(([chainId]) => chainId),
      freed: [...blobs, ...layers].reduce((sum, [, size]) => sum + size, 0),
    },
  }
}

function keyOf(reference: string | undefined, digest: Digest): string {
  return `${reference ?? ''} ${digest}`
}

/** What released entries consisted of, and what was about it: it is known not to be in the making. */
async function formerContent(
  released: Iterable<NamedDescriptor>,
  kept: readonly NamedDescriptor[],
  graph: ContentGraph,
): Promise<ReadonlySet<Digest>> {
  const former = new Set<Digest>()
  for (const { descriptor } of released) await addContent(former, descriptor, graph)
  if (former.size === 0) return former
  for (let before = -1; former.size > before; ) {
    before = former.size
    for (const { reference, descriptor } of kept) {
      if (reference !== undefined || former.has(descriptor.digest)) continue
      const subject = (await graph.node(descriptor))?.subject
      if (subject !== undefined && former.has(subject)) await addContent(former, descriptor, graph)
    }
  }
  return former
}

async function addContent(former: Set<Digest>, root: Descriptor, graph: ContentGraph): Promise<void> {
  try {
    for await (const each of graph.walk(root)) {
      former.add(each.digest)
      for (const chainId of (await graph.node(each))?.chainIds ?? []) former.add(chainId)
    }
  } catch (error) {
    // A damaged image can be given up too; what is known of it goes now, the rest when it is old enough.
    if (!(error instanceof OciError)) throw error
  }
}

type Sized = readonly [digest: Digest, size: number]

/** Tells garbage from what is needed. */
class Judge {
  readonly #context: GarbageContext
  readonly #marks: Marks
  readonly #isFormer: (digest: Digest) => boolean
  readonly #options: CollectOptions
  readonly #graph: ContentGraph
  readonly #heights = new Map<Digest, number>()

  constructor(
    context: GarbageContext,
    graph: ContentGraph,
    marks: Marks,
    isFormer: (digest: Digest) => boolean,
    options: CollectOptions,
  ) {
    this.#context = context
    this.#graph = graph
    this.#marks = marks
    this.#isFormer = isFormer
    this.#options = options
  }

  /** Garbage, what names other content first. */
  async blobs(digests: readonly Digest[]): Promise<readonly Sized[]> {
    const { content } = this.#context
    const candidates: Digest[] = []
    for (const digest of digests) {
      if (this.#marks.blobs.has(digest)) continue
      if (await this.#isOver(digest, content.blobPath(digest))) candidates.push(digest)
      // It may be a manifest whose parts are older.
      else await this.#keep(digest)
    }
    const found: { readonly sized: Sized; readonly height: number }[] = []
    for (const digest of candidates) {
      const descriptor = this.#marks.blobs.has(digest) ? undefined : await describe(content, digest)
      if (descriptor === undefined) continue
      found.push({ sized: [digest, descriptor.size], height: await this.#height(descriptor) })
    }
    return found.sort((a, b) => b.height - a.height).map(({ sized }) => sized)
  }

  /** What nobody has named can be damaged without keeping everything else from being collected. */
  async #keep(digest: Digest): Promise<void> {
    try {
      await this.#marks.digest(digest)
    } catch (error) {
      if (!(error instanceof OciError)) throw error
      this.#marks.blobs.add(digest)
    }
  }

  /** Levels of content below a blob; a manifest with nothing in it still is above blobs. */
  async #height(descriptor: Descriptor): Promise<number> {
    const known = this.#heights.get(descriptor.digest)
    if (known !== undefined) return known
    let height = 0
    try {
      const children = (await this.#graph.node(descriptor))?.children
      for (const child of children ?? []) height = Math.max(height, 1 + (await this.#height(child)))
      if (children !== undefined) height = Math.max(height, 1)
    } catch (error) {
      // Damaged: nobody can take it for complete.
      if (!(error instanceof OciError)) throw error
    }
    this.#heights.set(descriptor.digest, height)
    return height
  }

  async layers(chainIds: readonly Digest[]): Promise<readonly Sized[]> {
    const found: Sized[] = []
    for (const chainId of chainIds) {
      const path = layerPath(this.#context.paths, chainId)
      if (this.#marks.layers.has(chainId)) continue
      if (await this.#isOver(chainId, path)) found.push([chainId, (await readRecord(path))?.size ?? 0])
    }
    return found
  }

  /** Whether something that is not needed can't be in the making either. */
  async #isOver(digest: Digest, path: string): Promise<boolean> {
    if (this.#isFormer(digest)) return true
    if (this.#options.onlyReleased === true) return false
    try {
      return Date.now() - (await stat(path)).mtimeMs >= this.#options.grace
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return false
      throw fileError(error, 'collecting garbage', path)
    }
  }
}

async function moveAway(
  { paths, content }: GarbageContext,
  { blobs, layers }: Collected,
  trash: string,
): Promise<void> {
  let count = 0
  const move = async (path: string): Promise<void> => {
    count += 1
    try {
      await rename(path, join(trash, String(count)))
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return
      // Another file system, of whoever has set the store up so: only files can go at once.
      if (!hasCode(error, 'EXDEV')) throw fileError(error, 'collecting garbage', path)
      await rm(path, { recursive: true, force: true })
    }
  }
  for (const digest of blobs) await move(content.blobPath(digest))
  for (const chainId of layers) await move(layerPath(paths, chainId))
}

function unreadable(error: unknown): unknown {
  if (!(error instanceof OciError)) return error
  const message = `nothing is removed: ${error.message}`
  return new SpecError('the store', [{ pointer: '', message }], {
    subject: error.subject,
    hint: 'check() says what is damaged, repair() fetches it again; removeImage() gives it up.',
    cause: error,
  })
}
