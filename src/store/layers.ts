import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, rename } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Fetcher } from '../content/interfaces.ts'
import type { Descriptor } from '../image/descriptor.ts'
import { type Digest, digestEncoded } from '../image/digest.ts'
import { fileError, hasCode } from '../internal/file-error.ts'
import { applyLayer } from '../layer/apply/apply.ts'
import type { LayerMarks, LayerWarning } from '../layer/apply/planner.ts'
import type { Compression } from '../layer/decompress.ts'
import type { LayerLimits } from '../layer/limits.ts'
import {
  currentBootId,
  diffName,
  isSynced,
  type LayerRecord,
  markSynced,
  readRecord,
  writeRecord,
} from './layer-record.ts'
import { LowerDirectories } from './lower-directories.ts'
import { layerPath, type StorePaths } from './paths.ts'
import type { Rootfs } from './rootfs.ts'
import { syncFileSystem } from './sync.ts'
import { WorkDirectory } from './work-directory.ts'

/** One layer of an image, with its place in the stack. */
export interface LayerStep {
  readonly descriptor: Descriptor
  readonly diffId: Digest
  readonly chainId: Digest
  /** ChainIDs below it, the next one first. */
  readonly below: readonly Digest[]
}

/** What happens to a layer while an image is unpacked. */
export interface UnpackProgress {
  /** `skipped`: it was there already. */
  readonly kind: 'started' | 'progress' | 'done' | 'skipped'
  readonly layer: Descriptor
  /** Bytes of the blob that have been read. */
  readonly compressed: number
  /** Bytes of the uncompressed layer so far. */
  readonly size: number
  readonly entries: number
}

/** How layers are unpacked. */
export interface UnpackOptions {
  /** Where blobs are read: not from the store, when they are still on their way to it. Default the store. */
  readonly content?: Fetcher
  /** Told of every layer and of each piece of it. An error it throws ends the work. */
  readonly onProgress?: (progress: UnpackProgress) => void
  /** Told of what could not be kept, such as an attribute that the file system does not take. */
  readonly onWarning?: (warning: LayerWarning & { readonly layer: Descriptor }) => void
  readonly signal?: AbortSignal | undefined
}

/** Unpacked layers on disk. A layer is there when its directory is: it comes by one rename, complete and checked. */
export class Layers {
  readonly #paths: StorePaths
  readonly #content: Fetcher
  readonly #limits: LayerLimits | undefined
  readonly #rootfs: () => Promise<Rootfs>
  /** Records of layers that were found good; they do not change as long as the layer is there. */
  readonly #known = new Map<Digest, LayerRecord>()
  readonly #synced = new Set<Digest>()

  /** @param rootfs What the layers are unpacked for. */
  constructor(paths: StorePaths, content: Fetcher, rootfs: () => Promise<Rootfs>, limits?: LayerLimits) {
    this.#paths = paths
    this.#content = content
    this.#rootfs = rootfs
    this.#limits = limits
  }

  /** The tree of a layer. */
  diffPath(chainId: Digest): string {
    return join(layerPath(this.#paths, chainId), diffName)
  }

  /**
   * The record of a layer that can be used; undefined when it is not there, or may have been lost in a crash.
   * @param toCopy Whether it is to be copied, or compared with a copy, so that overlayfs need not be able to stack it.
   */
  async find(chainId: Digest, toCopy = false): Promise<LayerRecord | undefined> {
    const known = this.#known.get(chainId)
    if (known !== undefined && existsSync(this.diffPath(chainId))) return known
    const directory = layerPath(this.#paths, chainId)
    const record = await readRecord(directory)
    if (record === undefined) return undefined
    const good = record.bootId === (await currentBootId()) || (await isSynced(directory))
    if (!good) return undefined
    if (record.marks === 'files') {
      if (toCopy) return record
      if ((await this.#rootfs()).kind === 'overlay') return undefined
    }
    this.#known.set(chainId, record)
    return record
  }

  /**
   * Makes sure that a layer is there. `parent` settles when the one below is. Several callers, here or in
   * other processes, unpack it once.
   */
  async ensure(step: LayerStep, parent: Promise<unknown>, options: UnpackOptions): Promise<LayerRecord> {
    const { descriptor: layer, chainId } = step
    const found = await this.find(chainId)
    if (found !== undefined) {
      options.onProgress?.(skipped(layer, found))
      return found
    }
    const work = await WorkDirectory.claim(this.#paths.temporary, workName(chainId), options.signal)
    try {
      // Another process may have been at it while its lock was waited for.
      const other = await this.find(chainId)
      if (other !== undefined) return other
      const record = await this.#unpack(step, work.path, parent, options, await this.#marks())
      options.signal?.throwIfAborted()
      await this.#publish(work.path, chainId)
      const { size, entries } = record
      options.onProgress?.({ kind: 'done', layer, compressed: layer.size, size, entries })
      return record
    } finally {
      await work.release()
    }
  }

  /**
   * Unpacks a layer anew, beside the one that is there, and lets `judge` look at both. When it says so, the new one
   * takes the place of the other, which is kept for the containers that run on it. Layers below must be there.
   */
  async compare(
    step: LayerStep,
    judge: (anew: string, there: string) => Promise<'keep' | 'replace'>,
    signal?: AbortSignal,
  ): Promise<void> {
    const { chainId } = step
    const work = await WorkDirectory.claim(this.#paths.temporary, workName(chainId), signal)
    try {
      const record = await readRecord(layerPath(this.#paths, chainId))
      const marks = record === undefined ? await this.#marks() : (record.marks ?? 'overlay')
      await this.#unpack(step, work.path, Promise.resolve(), { signal }, marks)
      if ((await judge(join(work.path, diffName), this.diffPath(chainId))) === 'keep') return
      await this.#retire(chainId)
      await this.#publish(work.path, chainId)
      this.#synced.delete(chainId)
    } finally {
      await work.release()
    }
  }

  /** Puts a layer aside: containers may have its files open. Pruning removes it when there are no such containers. */
  async #retire(chainId: Digest): Promise<void> {
    const aside = join(this.#paths.retired, `${chainId}.${randomUUID()}`)
    try {
      await rename(layerPath(this.#paths, chainId), aside)
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw fileError(error, 'replacing a layer', chainId)
    }
  }

  async #marks(): Promise<LayerMarks> {
    return (await this.#rootfs()).kind === 'overlay' ? 'overlay' : 'files'
  }

  /** Notes that the layers are on the disk, after having put them there. */
  async sync(chainIds: readonly Digest[]): Promise<void> {
    const open: Digest[] = []
    for (const chainId of chainIds) {
      if (this.#synced.has(chainId)) continue
      if (!(await isSynced(layerPath(this.#paths, chainId)))) open.push(chainId)
    }
    if (open.length > 0) await syncFileSystem(this.#paths.root)
    for (const chainId of open) await markSynced(layerPath(this.#paths, chainId))
    for (const chainId of chainIds) this.#synced.add(chainId)
  }

  async #unpack(
    { descriptor: layer, diffId, chainId, below }: LayerStep,
    directory: string,
    parent: Promise<unknown>,
    { content = this.#content, signal, onProgress, onWarning }: UnpackOptions,
    marks: LayerMarks,
  ): Promise<LayerRecord> {
    const diff = join(directory, diffName)
    await mkdir(diff)
    onProgress?.({ kind: 'started', layer, compressed: 0, size: 0, entries: 0 })
    const lower = new LowerDirectories(() => this.#visible(below))
    const source = await content.fetch(layer, { signal })
    const applied = await applyLayer(source, diff, {
      diffId,
      signal,
      bottom: below.length === 0,
      marks,
      inherit: async (path) => {
        await parent
        return (await lower.lookup(path)) ?? plainDirectory
      },
      lower: async (path) => {
        await parent
        return lower.file(path)
      },
      ...(this.#limits === undefined ? {} : { limits: this.#limits }),
      ...(onProgress === undefined ? {} : { onProgress: (p) => onProgress({ kind: 'progress', layer, ...p }) }),
      ...(onWarning === undefined ? {} : { onWarning: (warning) => onWarning({ ...warning, layer }) }),
    }).finally(() => lower.close())
    await parent
    const { size, entries, opaqueRoot, compression } = applied
    if (!isCompressedAs(layer.mediaType, compression)) {
      const message = `its media type is ${layer.mediaType}, but its compression is ${compression}`
      onWarning?.({ entry: layer.digest, message, layer })
    }
    const bootId = await currentBootId()
    const [next] = below
    const record: LayerRecord = {
      version: 1,
      chainId,
      diffId,
      ...(next === undefined ? {} : { parent: next }),
      size,
      entries,
      opaqueRoot,
      ...(applied.marks === 'files' ? { marks: applied.marks } : {}),
      bootId,
    }
    await writeRecord(directory, record)
    return record
  }

  /** The directories of layers, the highest one first, down to the one that hides all that are below it. */
  async #visible(chainIds: readonly Digest[]): Promise<readonly string[]> {
    const paths: string[] = []
    for (const chainId of chainIds) {
      paths.push(this.diffPath(chainId))
      if ((await readRecord(layerPath(this.#paths, chainId)))?.opaqueRoot === true) break
    }
    return paths
  }

  async #publish(directory: string, chainId: Digest): Promise<void> {
    const target = layerPath(this.#paths, chainId)
    try {
      await mkdir(dirname(target), { recursive: true, mode: 0o700 })
      await rename(directory, target)
    } catch (error) {
      if (hasCode(error, 'ENOTEMPTY') || hasCode(error, 'EEXIST')) {
        await this.#discard(target, chainId)
        return this.#publish(directory, chainId)
      }
      throw fileError(error, 'publishing a layer', chainId)
    }
  }

  /** Takes away a layer that a crash may have damaged. */
  async #discard(target: string, chainId: Digest): Promise<void> {
    const trash = await WorkDirectory.claim(this.#paths.temporary, `${workName(chainId)}.old`)
    try {
      await trash.take(target)
    } finally {
      await trash.release()
    }
  }
}

/** A directory that no layer says anything of: always the same, so that the same image is the same tree everywhere. */
const plainDirectory = { uid: 0, gid: 0, mode: 0o755, mtime: { seconds: 0, nanoseconds: 0 } }

/** Whether a blob is compressed as its media type says. Tools go by its first bytes, so that the type may lie. */
function isCompressedAs(mediaType: string, compression: Compression): boolean {
  const [, stated = 'none'] = /[+.](gzip|zstd)$/.exec(mediaType) ?? []
  return stated === compression
}

/** What is told of a layer that is there already. */
export function skipped(layer: Descriptor, { size, entries }: LayerRecord): UnpackProgress {
  return { kind: 'skipped', layer, compressed: 0, size, entries }
}

function workName(chainId: Digest): string {
  return `layer-${digestEncoded(chainId)}`
}
