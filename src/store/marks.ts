import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { LayoutStore, NamedDescriptor } from '../content/layout.ts'
import { documentLimits } from '../content/limits.ts'
import { mediaTypeOf, unknownType } from '../content/media-type-of.ts'
import type { Descriptor } from '../image/descriptor.ts'
import { type Digest, isDigest } from '../image/digest.ts'
import { isIndexType, isManifestType } from '../image/media-type.ts'
import { hasCode } from '../internal/file-error.ts'
import type { ContentGraph } from './graph.ts'
import { readRecord } from './layer-record.ts'
import { layerPath, type StorePaths } from './paths.ts'
import type { WritableRecord } from './writable-record.ts'

/** What is needed: everything that is marked stays. */
export class Marks {
  readonly blobs: Set<Digest> = new Set()
  readonly layers: Set<Digest> = new Set()
  readonly #paths: StorePaths
  readonly #content: LayoutStore
  readonly #graph: ContentGraph
  readonly #walked = new Set<Digest>()

  constructor(paths: StorePaths, content: LayoutStore, graph: ContentGraph) {
    this.#paths = paths
    this.#content = content
    this.#graph = graph
  }

  /** A blob with all that it consists of, and the layers of its images. */
  async content(named: Descriptor): Promise<void> {
    if (this.#walked.has(named.digest)) return
    this.#walked.add(named.digest)
    const isTyped = isManifestType(named.mediaType) || isIndexType(named.mediaType)
    // What another tool gave no type may be a manifest all the same.
    const root = isTyped ? named : ((await describe(this.#content, named.digest)) ?? named)
    for await (const descriptor of this.#graph.walk(root)) {
      this.blobs.add(descriptor.digest)
      const node = await this.#graph.node(descriptor)
      for (const chainId of node?.chainIds ?? []) this.layers.add(chainId)
    }
  }

  /** What a digest stands for, if it is there: a blob of any type, or a layer. */
  async digest(digest: Digest): Promise<void> {
    await this.layer(digest)
    const descriptor = await describe(this.#content, digest)
    if (descriptor === undefined) this.blobs.add(digest)
    else await this.content(descriptor)
  }

  /** An unpacked layer and those below it. */
  async layer(chainId: Digest): Promise<void> {
    for (let next: Digest | undefined = chainId; next !== undefined && !this.layers.has(next); ) {
      this.layers.add(next)
      next = (await readRecord(layerPath(this.#paths, next)))?.parent
    }
  }

  /** What a container is made of. */
  async container({ chainId, layers = [], image }: WritableRecord): Promise<void> {
    if (chainId !== undefined) await this.layer(chainId)
    for (const layer of layers) this.layers.add(layer)
    if (image !== undefined) await this.digest(image)
  }

  /**
   * What `index.json` lists. Entries without a name that are about another manifest, such as signatures, are
   * needed only as long as that is.
   */
  async entries(entries: readonly NamedDescriptor[]): Promise<void> {
    const waiting: (readonly [subject: Digest, descriptor: Descriptor])[] = []
    for (const { reference, descriptor } of entries) {
      const subject = reference === undefined ? (await this.#graph.node(descriptor))?.subject : undefined
      if (subject === undefined) await this.content(descriptor)
      else waiting.push([subject, descriptor])
    }
    await this.referrers(waiting)
  }

  /** Those of `waiting` whose subject is needed; as long as it leads to further ones. */
  async referrers(waiting: readonly (readonly [subject: Digest, descriptor: Descriptor])[]): Promise<void> {
    let rest = waiting
    for (;;) {
      const needed = rest.filter(([subject]) => this.blobs.has(subject))
      if (needed.length === 0) return
      for (const [, descriptor] of needed) await this.content(descriptor)
      rest = rest.filter((each) => !needed.includes(each))
    }
  }
}

/** The descriptor of a blob that is there, its type by its content. */
export async function describe(content: LayoutStore, digest: Digest): Promise<Descriptor | undefined> {
  const path = content.blobPath(digest)
  try {
    const { size } = await stat(path)
    const mediaType = size <= documentLimits.manifest ? mediaTypeOf(await readFile(path)) : unknownType
    return { mediaType, digest, size }
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
}

/** What lies in a folder of the form `<algorithm>/<encoded>`. */
export async function listDigests(folder: string): Promise<readonly Digest[]> {
  const digests: Digest[] = []
  for (const algorithm of await entriesOf(folder)) {
    for (const encoded of await entriesOf(join(folder, algorithm))) {
      const digest = `${algorithm}:${encoded}`
      if (isDigest(digest)) digests.push(digest)
    }
  }
  return digests
}

async function entriesOf(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (hasCode(error, 'ENOENT') || hasCode(error, 'ENOTDIR')) return []
    throw error
  }
}
