import type { Readable } from 'node:stream'
import { DigestMismatchError, LimitError } from '../../errors.ts'
import { createDigester, type Digest, digestAlgorithm } from '../../image/digest.ts'
import { onAbort } from '../../internal/abort.ts'
import { freeMemory } from '../../internal/free-memory.ts'
import { isTurnOver, nextTurn } from '../../internal/turn.ts'
import { type Compression, type DecompressionCounters, decompress, isWholeOutput } from '../decompress.ts'
import { type CompleteLimits, completeLimits, type LayerLimits } from '../limits.ts'
import type { Timestamp } from '../tar/entry.ts'
import { TarReader } from '../tar/reader.ts'
import { Batches, type BatchRunner } from './batches.ts'
import { copyLinked, type LowerFile } from './lower-links.ts'
import { type LayerMarks, LayerPlanner, type LayerWarning } from './planner.ts'
import { type Ownership, openTarget, ownership } from './target.ts'

/** Attributes of a directory in the layers below. */
export interface DirectoryAttributes {
  readonly uid: number
  readonly gid: number
  /** Permission bits. */
  readonly mode: number
  readonly mtime: Timestamp
}

/** How far applying has come. */
export interface ApplyProgress {
  /** Bytes of the blob that have been read. */
  readonly compressed: number
  /** Bytes of the uncompressed layer. */
  readonly size: number
  readonly entries: number
}

/** How a layer is applied. */
export interface ApplyOptions {
  /** Digest that the uncompressed layer must have (DiffID). Not checked when it is left out. */
  readonly diffId?: Digest
  readonly limits?: LayerLimits
  /** Whether there is no layer below: whiteouts are left out then. Default false. */
  readonly bottom?: boolean
  /** In which form it is applied. Default that of overlayfs. */
  readonly marks?: LayerMarks
  /**
   * Looks up a directory in the layers below, by its path in bytes; called when all entries have been read,
   * for directories that no entry names. Default: they belong to root and have mode 0755.
   */
  readonly inherit?: (path: Buffer) => Promise<DirectoryAttributes | undefined>
  /**
   * Looks up what is not a directory in the layers below, for hard links to it; called when all entries have been read. Default:
   * such a link is an error.
   */
  readonly lower?: (path: Buffer) => Promise<LowerFile | undefined>
  readonly onProgress?: (progress: ApplyProgress) => void
  readonly onWarning?: (warning: LayerWarning) => void
  readonly signal?: AbortSignal | undefined
}

/** What has been applied. */
export interface AppliedLayer {
  readonly diffId: Digest
  /** Bytes of the uncompressed layer. */
  readonly size: number
  readonly entries: number
  /** Whether it hides all layers below; overlayfs has no mark for that in a root, so leave those out. */
  readonly opaqueRoot: boolean
  /** In which form it says that something of lower layers is gone; undefined when it does not say so. */
  readonly marks: LayerMarks | undefined
  /** How the blob is compressed, by its first bytes. */
  readonly compression: Compression
}

/** Runs calls in the target; closed when the layer is done. */
export interface TargetProcess extends BatchRunner {
  close(): Promise<void>
}

/**
 * Unpacks a layer (a tar archive, plain or compressed with gzip or zstd) into `directory`, which must be
 * empty, by default in the form that overlayfs stacks. All of it is done by a process that has `directory` as its root.
 * What a failure leaves in it is for the caller to remove.
 * @throws LayerError for a malformed archive and for an entry that leads out of the layer.
 * @throws DigestMismatchError when it is not what its DiffID says. @throws LimitError beyond a limit.
 * @throws SyscallError when the kernel refuses, for example ENOSPC.
 */
export async function applyLayer(
  source: Readable,
  directory: string,
  options: ApplyOptions = {},
): Promise<AppliedLayer> {
  // The iteration throws the source's errors; one that comes before it must not go unhandled.
  source.on('error', () => {})
  try {
    const limits = completeLimits(options.limits)
    const rights = await ownership()
    const target = await openTarget(directory)
    return await applyTo(source, target, rights, limits, options)
  } finally {
    source.destroy()
  }
}

/** {@link applyLayer} with the process given; closes it. */
export async function applyTo(
  source: Readable,
  target: TargetProcess,
  rights: Ownership,
  limits: CompleteLimits,
  options: ApplyOptions,
): Promise<AppliedLayer> {
  try {
    const batches = new Batches(target)
    const planner = new LayerPlanner(batches, {
      ...rights,
      maxDepth: limits.maxDepth,
      bottom: options.bottom ?? false,
      marks: options.marks ?? 'overlay',
      ...(options.onWarning === undefined ? {} : { onWarning: options.onWarning }),
    })
    const read = await readLayer(source, planner, batches, limits, options)
    if (options.diffId !== undefined && options.diffId !== read.diffId) {
      throw new DigestMismatchError(options.diffId, read.diffId)
    }
    await copyLinked(planner, batches, limits, options.lower)
    await inheritAttributes(planner, options.inherit)
    for (const _ of planner.finish(() => isEnough(batches))) await breathe(batches)
    await batches.finish()
    options.signal?.throwIfAborted()
    return { ...read, opaqueRoot: planner.opaqueRoot, marks: planner.marks }
  } finally {
    await target.close()
  }
}

async function readLayer(
  source: Readable,
  planner: LayerPlanner,
  batches: Batches,
  limits: CompleteLimits,
  { diffId, signal, onProgress }: ApplyOptions,
): Promise<Omit<AppliedLayer, 'opaqueRoot' | 'marks'>> {
  const counters: DecompressionCounters = { compressed: 0 }
  const digester = createDigester(diffId === undefined ? undefined : digestAlgorithm(diffId))
  const reader = new TarReader(planner, limits)
  signal?.throwIfAborted()
  const unlink = onAbort(signal, () => void source.destroy(signal?.reason))
  const full = (): boolean => isEnough(batches)
  let size = 0
  try {
    for await (const chunk of decompress(source, counters, { digested: diffId !== undefined })) {
      isTurnOver() // it begins here
      size += chunk.length
      checkSize(size, counters.compressed, limits)
      digester.update(chunk)
      for (let at = 0; at < chunk.length; ) {
        at = reader.write(chunk, at, full)
        await breathe(batches)
      }
      signal?.throwIfAborted()
      onProgress?.({ compressed: counters.compressed, size, entries: reader.entries })
      // Nothing keeps a view of it.
      if (isWholeOutput(chunk, counters)) freeMemory(chunk)
    }
    signal?.throwIfAborted()
  } catch (error) {
    signal?.throwIfAborted()
    throw error
  } finally {
    unlink()
  }
  reader.end()
  const { compression = 'none' } = counters
  return { diffId: digester.digest(), size, entries: reader.entries, compression }
}

/** Whether to {@link breathe} before more is added. */
function isEnough(batches: Batches): boolean {
  return batches.isFull || isTurnOver()
}

/** Waits where the target has enough to do, or this turn of the event loop has had enough. */
async function breathe(batches: Batches): Promise<void> {
  if (batches.isFull) await batches.room()
  if (isTurnOver()) await nextTurn()
}

/** The ratio counts beyond this size only. */
const ratioFrom = 64 * 2 ** 20

function checkSize(size: number, compressed: number, limits: CompleteLimits): void {
  if (size > limits.maxSize) throw new LimitError('the uncompressed layer', limits.maxSize, 'bytes')
  if (size > ratioFrom && size > compressed * limits.maxRatio) {
    throw new LimitError('the compression ratio of the layer', limits.maxRatio, 'to one')
  }
}

/** Directories that are looked up at a time: others wait for this layer, and each takes a turn of Node's pool for each layer below. */
const inheritedAtOnce = 32

async function inheritAttributes(planner: LayerPlanner, inherit: ApplyOptions['inherit']): Promise<void> {
  if (inherit === undefined) return
  const directories = planner.unnamedDirectories()
  for (let at = 0; at < directories.length; at += inheritedAtOnce) {
    const some = directories.slice(at, at + inheritedAtOnce)
    const found = await Promise.all(some.map(({ path }) => inherit(path)))
    found.forEach((attributes, index) => {
      if (attributes !== undefined) some[index]?.inherit(attributes)
    })
  }
}
