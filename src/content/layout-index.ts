import { open } from 'node:fs/promises'
import { ConflictError, LimitError } from '../errors.ts'
import { annotation } from '../image/annotations.ts'
import type { Descriptor } from '../image/descriptor.ts'
import { type ImageIndex, parseIndex } from '../image/image-index.ts'
import { mediaType } from '../image/media-type.ts'
import { fileError } from '../internal/file-error.ts'
import type { Exclusive } from './file-lock.ts'
import { assertName } from './name.ts'
import { publish } from './publish.ts'

/** An entry of a layout's `index.json`. */
export interface NamedDescriptor {
  /** The name; undefined for an entry without one. */
  readonly reference: string | undefined
  readonly descriptor: Descriptor
}

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

  constructor(path: string, options: LayoutIndexOptions) {
    this.#path = path
    this.#options = options
  }

  async entries(): Promise<readonly NamedDescriptor[]> {
    const { manifests } = await this.#read()
    return manifests.map((entry) => ({ reference: nameOf(entry), descriptor: withoutName(entry) }))
  }

  /** The entry of a name: by its full name first, then by the short one, which several may share. */
  async find(reference: string): Promise<Descriptor | undefined> {
    const { manifests } = await this.#read()
    const full = manifests.filter((entry) => entry.annotations?.[annotation.containerdImageName] === reference)
    const found = full.length > 0 ? full : manifests.filter((entry) => shortName(entry) === reference)
    const [first, ...others] = found.length > 0 ? found : manifests.filter((entry) => entry.digest === reference)
    if (others.some((entry) => entry.digest !== first?.digest)) {
      throw new ConflictError(reference, `${reference} names ${found.length} different images in ${this.#path}`)
    }
    return first && withoutName(first)
  }

  async set(reference: string, descriptor: Descriptor, signal?: AbortSignal): Promise<void> {
    assertName(reference)
    await this.#change((manifests) => {
      const named = withName(descriptor, reference)
      // An entry that is replaced keeps its place; an entry of the same content without a name gets it.
      const others = manifests.filter((entry) => nameOf(entry) !== reference)
      const nameless = others.findIndex((entry) => nameOf(entry) === undefined && entry.digest === descriptor.digest)
      const place = manifests.findIndex((entry) => nameOf(entry) === reference)
      if (nameless >= 0) return others.with(nameless, named)
      return others.toSpliced(place >= 0 ? place : others.length, 0, named)
    }, signal)
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

  async #read(): Promise<ImageIndex> {
    const { maxBytes } = this.#options
    try {
      const file = await open(this.#path)
      try {
        if ((await file.stat()).size > maxBytes) throw new LimitError(this.#path, maxBytes, 'bytes')
        return parseIndex(await file.readFile()).value
      } finally {
        await file.close()
      }
    } catch (error) {
      throw fileError(error, `reading ${this.#path}`, this.#path)
    }
  }
}

function nameOf(entry: Descriptor): string | undefined {
  return entry.annotations?.[annotation.containerdImageName] ?? shortName(entry)
}

function shortName(entry: Descriptor): string | undefined {
  return entry.annotations?.[annotation.refName]
}

/** A name with a slash is a full reference, which containerd looks for under a key of its own. */
function withName(descriptor: Descriptor, reference: string): Descriptor {
  const full = reference.includes('/') ? { [annotation.containerdImageName]: reference } : {}
  const { annotations } = withoutName(descriptor)
  return { ...descriptor, annotations: { ...annotations, ...full, [annotation.refName]: reference } }
}

function withoutName(entry: Descriptor): Descriptor {
  const { annotations = {}, ...rest } = entry
  const { [annotation.refName]: _short, [annotation.containerdImageName]: _full, ...others } = annotations
  return Object.keys(others).length === 0 ? rest : { ...rest, annotations: others }
}
