import type { Readable } from 'node:stream'
import type { ContentOptions, Fetcher, FetchOptions, ReferrersLister } from '../content/interfaces.ts'
import { readAll, verified } from '../content/verify.ts'
import { LimitError } from '../errors.ts'
import type { Descriptor } from '../image/descriptor.ts'
import { type Digest, isVerifiable } from '../image/digest.ts'
import { isIndexType, isManifestType } from '../image/media-type.ts'
import { parsePushedManifest } from './manifest-content.ts'
import { isRepository, isTag } from './names.ts'
import { ReadOnlyStorage } from './read-only-storage.ts'
import type { RegistryStorage, StoredBlob, StoredManifest } from './storage.ts'

/** Content with names: the local store, a layout directory, an archive, memory. */
export interface ListedContent extends Fetcher {
  /** Lists what refers to content; without it there are no referrers. */
  readonly referrers?: ReferrersLister['referrers']

  /** What it has names for. Entries without a name are not served. */
  list(options?: ContentOptions): Promise<readonly NamedContent[]>
}

/** A name and what it stands for. */
export interface NamedContent {
  readonly reference?: string | undefined
  readonly descriptor: Descriptor
}

/** Under what name content is served. */
export interface ContentStorageOptions {
  /**
   * The repository and tag for a name of the store; undefined for what is not to be served. Default: the
   * name without its registry, so that `docker.io/library/alpine:3` is served as `library/alpine:3`.
   */
  readonly expose?: ((name: string) => ExposedName | undefined) | undefined
}

/** What a name of the store is called by clients of the registry. */
export interface ExposedName {
  readonly repository: string
  readonly tag: string
}

/** Bytes of a manifest. */
const maxManifestSize = 4 * 1024 * 1024

/** Manifests and blobs of one repository. */
const maxContents = 100_000

/** Repositories whose contents are remembered. */
const maxRepositories = 100

/**
 * Serves what a content store holds, read-only: every name becomes a tag, and a repository has what
 * its tags lead to.
 */
export function contentStorage(store: ListedContent, options: ContentStorageOptions = {}): RegistryStorage {
  return new ContentStorage(store, options.expose ?? withoutRegistry)
}

function withoutRegistry(name: string): ExposedName | undefined {
  const colon = name.lastIndexOf(':')
  if (colon <= name.lastIndexOf('/')) return undefined
  const [first = '', ...rest] = name.slice(0, colon).split('/')
  const hasRegistry = rest.length > 0 && (/[.:]/.test(first) || first === 'localhost')
  return { repository: (hasRegistry ? rest : [first, ...rest]).join('/'), tag: name.slice(colon + 1) }
}

/** What can be reached from the tags of a repository. */
interface Contents {
  /** The digests that the tags stand for. */
  readonly roots: string
  readonly descriptors: ReadonlyMap<Digest, Descriptor>
}

class ContentStorage extends ReadOnlyStorage implements RegistryStorage {
  readonly #store: ListedContent
  readonly #expose: (name: string) => ExposedName | undefined
  readonly #contents = new Map<string, Contents>()

  constructor(store: ListedContent, expose: (name: string) => ExposedName | undefined) {
    super()
    this.#store = store
    this.#expose = expose
  }

  async openBlob(repository: string, digest: Digest): Promise<StoredBlob | undefined> {
    const descriptor = await this.#find(repository, digest)
    if (descriptor === undefined) return undefined
    const { size } = descriptor
    return { size, read: (start, end) => readContent(this.#store, descriptor, start, end), close: async () => {} }
  }

  async has(repository: string, digest: Digest): Promise<boolean> {
    return (await this.#find(repository, digest)) !== undefined
  }

  async getManifest(repository: string, digest: Digest): Promise<StoredManifest | undefined> {
    const descriptor = await this.#find(repository, digest)
    if (descriptor === undefined || !isManifest(descriptor)) return undefined
    return { mediaType: descriptor.mediaType, raw: await readAll(this.#store, descriptor, maxManifestSize) }
  }

  async *referrers(repository: string, subject: Digest, after: string): AsyncGenerator<Descriptor> {
    const descriptor = this.#store.referrers && (await this.#find(repository, subject))
    if (descriptor === undefined || this.#store.referrers === undefined) return
    const found: Descriptor[] = []
    for await (const referrer of this.#store.referrers(descriptor)) if (referrer.digest > after) found.push(referrer)
    yield* found.sort((a, b) => (a.digest < b.digest ? -1 : 1))
  }

  async getTag(repository: string, tag: string): Promise<Digest | undefined> {
    return (await this.#tags(repository)).get(tag)?.digest
  }

  async listTags(repository: string): Promise<readonly string[] | undefined> {
    const tags = [...(await this.#tags(repository)).keys()]
    return tags.length === 0 ? undefined : tags
  }

  async listRepositories(): Promise<readonly string[]> {
    return [...new Set((await this.#list()).map(({ repository }) => repository))]
  }

  async #list(): Promise<readonly (ExposedName & { readonly descriptor: Descriptor })[]> {
    return (await this.#store.list()).flatMap(({ reference, descriptor }) => {
      const name = reference === undefined ? undefined : this.#expose(reference)
      const good = name && isRepository(name.repository) && isTag(name.tag) && isVerifiable(descriptor.digest)
      return good ? [{ ...name, descriptor }] : []
    })
  }

  /** Where two names become one tag, the first has it. */
  async #tags(repository: string): Promise<ReadonlyMap<string, Descriptor>> {
    const tags = new Map<string, Descriptor>()
    for (const { repository: name, tag, descriptor } of await this.#list()) {
      if (name === repository && !tags.has(tag)) tags.set(tag, descriptor)
    }
    return tags
  }

  async #find(repository: string, digest: Digest): Promise<Descriptor | undefined> {
    const tags = await this.#tags(repository)
    const roots = [...tags.values()].map((descriptor) => descriptor.digest).join(' ')
    let contents = this.#contents.get(repository)
    if (contents?.roots !== roots) {
      contents = { roots, descriptors: await this.#reach([...tags.values()]) }
      this.#contents.delete(repository)
      this.#contents.set(repository, contents)
      const [oldest = ''] = this.#contents.keys()
      if (this.#contents.size > maxRepositories) this.#contents.delete(oldest)
    }
    const known = contents.descriptors.get(digest)
    return known ?? (await this.#findReferrer(contents, digest))
  }

  /** What refers to the contents is no part of them, but is served with them. */
  async #findReferrer({ descriptors }: Contents, digest: Digest): Promise<Descriptor | undefined> {
    if (this.#store.referrers === undefined) return undefined
    for (const descriptor of descriptors.values()) {
      if (!isManifest(descriptor)) continue
      for await (const referrer of this.#store.referrers(descriptor)) {
        if (referrer.digest === digest) return referrer
        const below = await this.#reach([referrer])
        const found = below.get(digest)
        if (found !== undefined) return found
      }
    }
    return undefined
  }

  async #reach(roots: readonly Descriptor[]): Promise<ReadonlyMap<Digest, Descriptor>> {
    const found = new Map<Digest, Descriptor>()
    const waiting = [...roots]
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      if (found.has(next.digest) || !isVerifiable(next.digest)) continue
      if (found.size >= maxContents) throw new LimitError('a repository', maxContents, 'manifests and blobs')
      found.set(next.digest, next)
      if (!isManifest(next)) continue
      // A platform of an index may be missing, and is answered with 404 when it is asked for.
      const raw = await readAll(this.#store, next, maxManifestSize).catch(() => undefined)
      if (raw === undefined) found.delete(next.digest)
      else waiting.push(...parsePushedManifest(raw, next.digest, next.mediaType).content)
    }
    return found
  }
}

function isManifest({ mediaType }: Descriptor): boolean {
  return isManifestType(mediaType) || isIndexType(mediaType)
}

/** Content from `start` to `end`; all of it is verified on the way. */
function readContent(store: Fetcher, descriptor: Descriptor, start: number, end: number): ReadableStream<Uint8Array> {
  const whole = start === 0 && end === descriptor.size
  let source: Readable | undefined
  const chunks = pieces()
  async function* pieces(): AsyncGenerator<Uint8Array, undefined> {
    const options: FetchOptions = start === 0 ? {} : { offset: start }
    const content = await store.fetch(descriptor, options)
    source = whole ? verified(descriptor, content) : content
    let rest = end - start
    for await (const chunk of source) {
      const part = (chunk as Uint8Array).subarray(0, rest)
      rest -= part.byteLength
      if (part.byteLength > 0) yield part
      if (rest === 0 && !whole) return undefined
    }
    return undefined
  }
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const next = await chunks.next()
        if (next.done) controller.close()
        else controller.enqueue(next.value)
      },
      async cancel() {
        source?.destroy()
        await chunks.return(undefined)
      },
    },
    { highWaterMark: 0 },
  )
}
