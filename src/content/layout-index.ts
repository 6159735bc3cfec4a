import { type BigIntStats, statSync } from 'node:fs'
import { copyFile, open } from 'node:fs/promises'
import { LimitError, OciError } from '../errors.ts'
import type { Descriptor } from '../image/descriptor.ts'
import { type ImageIndex, parseIndex } from '../image/image-index.ts'
import { mediaType } from '../image/media-type.ts'
import { fileError, hasCode } from '../internal/file-error.ts'
import type { Exclusive } from './file-lock.ts'
import { assertName } from './name.ts'
import { findNamed, listed, type NamedDescriptor, nameOf, withName, withoutName } from './named.ts'
import { publish } from './publish.ts'

/** How {@link LayoutIndex} keeps the file. */
export interface LayoutIndexOptions {
  readonly lock: Exclusive
  readonly sync: boolean
  /** Folder for what is being written. */
  readonly folder: string
  /** Bytes of the file at most. */
  readonly maxBytes: number
}

/** The `index.json` of an image layout. Members that are not known here survive every change. */
export class LayoutIndex {
  readonly #path: string
  readonly #options: LayoutIndexOptions
  /** What was read last, and of which file. */
  #known: { readonly stat: BigIntStats; readonly index: ImageIndex } | undefined

  constructor(path: string, options: LayoutIndexOptions) {
    this.#path = path
    this.#options = options
  }

  async entries(): Promise<readonly NamedDescriptor[]> {
    const { manifests } = await this.#read()
    return listed(manifests)
  }

  /** The entry that a name or digest stands for. @throws ConflictError when it stands for several. */
  async find(reference: string): Promise<Descriptor | undefined> {
    const { manifests } = await this.#read()
    return findNamed(manifests, reference, this.#path)
  }

  /** `keepReplaced`: what had the name stays listed without one. */
  async set(reference: string, descriptor: Descriptor, signal?: AbortSignal, keepReplaced = false): Promise<void> {
    assertName(reference)
    await this.#change((manifests) => {
      const named = withName(descriptor, reference)
      // An entry that is replaced keeps its place; an entry of the same content without a name gets it.
      const unnamed = manifests.filter((entry) => nameOf(entry) !== reference)
      const replaced = manifests.find((entry) => nameOf(entry) === reference)
      const isKept = replaced !== undefined && replaced.digest !== descriptor.digest
      const isListed = unnamed.some((entry) => entry.digest === replaced?.digest)
      const others = keepReplaced && isKept && !isListed ? [...unnamed, withoutName(replaced)] : unnamed
      const nameless = others.findIndex((entry) => nameOf(entry) === undefined && entry.digest === descriptor.digest)
      const place = manifests.findIndex((entry) => nameOf(entry) === reference)
      if (nameless >= 0) return others.with(nameless, named)
      return others.toSpliced(place >= 0 ? place : others.length, 0, named)
    }, signal)
  }

  /** Lists content without a name, unless it is listed. */
  async add(descriptor: Descriptor, signal?: AbortSignal): Promise<void> {
    const isListed = (entry: Descriptor): boolean => entry.digest === descriptor.digest
    if ((await this.#read()).manifests.some(isListed)) return
    await this.#change(
      (manifests) => (manifests.some(isListed) ? manifests : [...manifests, withoutName(descriptor)]),
      signal,
    )
  }

  async delete(reference: string, signal?: AbortSignal): Promise<boolean> {
    let found = false
    await this.#change((manifests) => {
      const others = manifests.filter((entry) => nameOf(entry) !== reference)
      found = others.length < manifests.length
      return others
    }, signal)
    return found
  }

  /** Takes entries away; how many. */
  async unlist(drop: (entry: NamedDescriptor) => boolean, signal?: AbortSignal): Promise<number> {
    let dropped = 0
    await this.#change((manifests) => {
      const entries = listed(manifests)
      const others = manifests.filter((_, index) => !drop(entries[index] as NamedDescriptor))
      dropped = manifests.length - others.length
      return others
    }, signal)
    return dropped
  }

  /** Replaces a file that can't be read. */
  async rebuild(entries: readonly Descriptor[], signal?: AbortSignal): Promise<void> {
    const { lock, sync, folder } = this.#options
    await lock(async () => {
      try {
        await this.#read()
        return
      } catch (error) {
        if (!(error instanceof OciError)) throw error
      }
      const manifests = entries.map((entry) => withoutName(entry))
      const text = JSON.stringify({ schemaVersion: 2, mediaType: mediaType.ociIndex, manifests })
      try {
        await copyFile(this.#path, `${this.#path}.damaged`).catch((error: unknown) => {
          if (!hasCode(error, 'ENOENT')) throw error
        })
        await publish(this.#path, text, { sync, folder, replace: true })
      } catch (error) {
        throw fileError(error, `writing ${this.#path}`, this.#path)
      }
    }, signal)
  }

  async #change(
    edit: (manifests: readonly Descriptor[]) => readonly Descriptor[],
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { lock, sync, folder, maxBytes } = this.#options
    await lock(async () => {
      const index = await this.#read()
      const manifests = edit(index.manifests)
      const text = JSON.stringify({ mediaType: mediaType.ociIndex, ...index, manifests })
      if (Buffer.byteLength(text) > maxBytes) throw new LimitError(this.#path, maxBytes, 'bytes')
      try {
        await publish(this.#path, text, { sync, folder, replace: true })
      } catch (error) {
        throw fileError(error, `writing ${this.#path}`, this.#path)
      }
    }, signal)
  }

  /** Read again only when it is not the file that was read last: most who ask change nothing. */
  async #read(): Promise<ImageIndex> {
    const { maxBytes } = this.#options
    try {
      const known = this.#known
      // A thread that is woken for a look takes ten times as long.
      if (known !== undefined && isSame(known.stat, statSync(this.#path, { bigint: true }))) return known.index
      const file = await open(this.#path)
      try {
        const before = await file.stat({ bigint: true })
        if (before.size > maxBytes) throw new LimitError(this.#path, maxBytes, 'bytes')
        const index = parseIndex(await file.readFile()).value
        // Another program may write into the file, and do that twice before its time goes on.
        const isOld = Date.now() - Number(before.mtimeMs) > settling
        this.#known = isOld && isSame(before, await file.stat({ bigint: true })) ? { stat: before, index } : undefined
        return index
      } finally {
        await file.close()
      }
    } catch (error) {
      throw fileError(error, `reading ${this.#path}`, this.#path)
    }
  }
}

/** Milliseconds after which a further change of a file gets another time, on any file system. */
const settling = 3000

function isSame(a: BigIntStats, b: BigIntStats): boolean {
  return a.ino === b.ino && a.dev === b.dev && a.size === b.size && a.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs
}
