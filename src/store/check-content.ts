import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Fetcher } from '../content/interfaces.ts'
import type { LayoutStore, NamedDescriptor } from '../content/layout.ts'
import { documentLimits } from '../content/limits.ts'
import { NotFoundError, OciError } from '../errors.ts'
import type { Descriptor } from '../image/descriptor.ts'
import { createDigester, type Digest, digestAlgorithm, isVerifiable } from '../image/digest.ts'
import { isIndexType, isManifestType } from '../image/media-type.ts'
import { fileError, hasCode } from '../internal/file-error.ts'
import type { BlobFinding, DocumentFinding } from './findings.ts'
import { ContentGraph, type GraphNode } from './graph.ts'
import { describe, listDigests } from './marks.ts'
import type { WritableRecord } from './writable-record.ts'

/** Bytes that are hashed at a time. */
const pieceSize = 1024 * 1024

/** Hashes blobs; one that was found good is not read again. */
export class BlobVerifier {
  readonly #content: LayoutStore
  readonly #isFull: boolean
  readonly #good = new Set<Digest>()
  readonly #signal: AbortSignal | undefined

  /** `full`: whether all content is read; else what is larger than documents is good when it is there. */
  constructor(content: LayoutStore, full: boolean, signal: AbortSignal | undefined) {
    this.#content = content
    this.#isFull = full
    this.#signal = signal
  }

  /** Whether a blob is what its digest says; undefined when it is not there. */
  async isGood(digest: Digest): Promise<boolean | undefined> {
    if (this.#good.has(digest)) return true
    const path = this.#content.blobPath(digest)
    try {
      const { size } = await stat(path)
      // Documents are read in any case: what they need is to be known.
      const isRead = isVerifiable(digest) && (this.#isFull || size <= documentLimits.manifest)
      if (isRead && (await this.#hash(path, digest)) !== digest) return false
      this.#good.add(digest)
      return true
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined
      if (hasCode(error, 'EIO') || hasCode(error, 'EISDIR')) return false
      throw fileError(error, 'checking a blob', path)
    }
  }

  async #hash(path: string, digest: Digest): Promise<Digest> {
    const digester = createDigester(digestAlgorithm(digest))
    for await (const piece of createReadStream(path, { highWaterMark: pieceSize })) {
      this.#signal?.throwIfAborted()
      digester.update(piece as Buffer)
    }
    return digester.digest()
  }
}

/** What the content of a store is like. */
export interface CheckedContent {
  readonly findings: readonly (BlobFinding | DocumentFinding)[]
  readonly blobs: { readonly count: number; readonly size: number }
  /** Manifests of images that can be read, whether named or not. */
  readonly nodes: readonly GraphNode[]
  /** Names of the images that need a digest; ChainIDs of layers too. */
  readonly names: ReadonlyMap<Digest, ReadonlySet<string>>
  readonly damaged: ReadonlySet<Digest>
}

/** Checks all blobs, and that those are there which images need. */
export async function checkContent(
  content: LayoutStore,
  verifier: BlobVerifier,
  entries: readonly NamedDescriptor[],
  containers: readonly WritableRecord[],
): Promise<CheckedContent> {
  const damaged = new Set<Digest>()
  const present = new Map<Digest, Descriptor>()
  let size = 0
  for (const digest of await listDigests(join(content.path, 'blobs'))) {
    const isGood = await verifier.isGood(digest)
    const found = isGood === undefined ? undefined : await describe(content, digest)
    if (found === undefined) continue
    present.set(digest, found)
    size += found.size
    if (isGood === false) damaged.add(digest)
  }
  const walk = new ContentWalk(content, damaged)
  for (const { reference, descriptor } of entries) await walk.root(descriptor, reference ?? descriptor.digest)
  for (const { image } of containers) {
    const descriptor = image === undefined ? undefined : present.get(image)
    if (descriptor !== undefined) await walk.root(descriptor, undefined)
  }
  for (const descriptor of present.values()) await walk.unnamed(descriptor)
  const orphans = [...damaged].filter(
    (digest) => !walk.findings.some((finding) => 'digest' in finding && finding.digest === digest),
  )
  const findings = [
    ...walk.findings.map((finding) => ({ ...finding, images: [...(walk.names.get(finding.digest) ?? [])] })),
    ...orphans.map((digest): BlobFinding => blobFinding('blob-damaged', digest, undefined)),
  ]
  const { nodes, names } = walk
  return { findings, blobs: { count: present.size, size }, nodes, names, damaged }
}

class ContentWalk {
  readonly findings: (BlobFinding | DocumentFinding)[] = []
  readonly nodes: GraphNode[] = []
  readonly names: Map<Digest, Set<string>> = new Map()
  readonly #content: LayoutStore
  readonly #graph: ContentGraph
  readonly #damaged: ReadonlySet<Digest>
  readonly #seen = new Set<Digest>()

  constructor(content: LayoutStore, damaged: ReadonlySet<Digest>) {
    this.#content = content
    this.#damaged = damaged
    // A manifest whose config is damaged still says what it needs.
    const fetch: Fetcher['fetch'] = async (descriptor, options) => {
      if (damaged.has(descriptor.digest)) throw new NotFoundError(descriptor.digest, 'it is damaged')
      return content.fetch(descriptor, options)
    }
    this.#graph = new ContentGraph({ fetch })
  }

  /** Goes through all that `descriptor` needs, for the image of that name. */
  async root(descriptor: Descriptor, name: string | undefined): Promise<void> {
    const visited = new Set<Digest>()
    const pending: { readonly descriptor: Descriptor; readonly optional: boolean }[] = [{ descriptor, optional: false }]
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const { digest } = next.descriptor
      if (visited.has(digest)) continue
      visited.add(digest)
      this.#name(digest, name)
      const node = await this.#look(next.descriptor, next.optional)
      if (node === undefined) continue
      for (const chainId of node.chainIds) this.#name(chainId, name)
      // An index lists images for other platforms, too.
      const optional = isIndexType(next.descriptor.mediaType)
      for (const child of node.children) pending.push({ descriptor: child, optional })
    }
  }

  /** A manifest that no image is made of: nothing is missing of it, but its layers may be unpacked. */
  async unnamed(descriptor: Descriptor): Promise<void> {
    if (!this.#seen.has(descriptor.digest) && !this.#damaged.has(descriptor.digest)) await this.#read(descriptor, false)
  }

  async #look(descriptor: Descriptor, optional: boolean): Promise<GraphNode | undefined> {
    const { digest } = descriptor
    const isNew = !this.#seen.has(digest)
    this.#seen.add(digest)
    if (this.#damaged.has(digest)) {
      if (isNew) this.findings.push(blobFinding('blob-damaged', digest, descriptor))
      return undefined
    }
    if (!(await this.#content.exists(descriptor))) {
      if (isNew && !optional) this.findings.push(blobFinding('blob-missing', digest, descriptor))
      return undefined
    }
    return this.#read(descriptor, isNew)
  }

  async #read(descriptor: Descriptor, tell: boolean): Promise<GraphNode | undefined> {
    if (!isManifestType(descriptor.mediaType) && !isIndexType(descriptor.mediaType)) return undefined
    try {
      const node = await this.#graph.node(descriptor)
      if (node !== undefined) this.nodes.push(node)
      return node
    } catch (error) {
      if (!(error instanceof OciError)) throw error
      const { digest } = descriptor
      if (tell)
        this.findings.push({ kind: 'document-invalid', digest, message: error.message, images: [], containers: [] })
      return undefined
    }
  }

  #name(digest: Digest, name: string | undefined): void {
    if (name === undefined) return
    const names = this.names.get(digest) ?? new Set()
    this.names.set(digest, names.add(name))
  }
}

function blobFinding(kind: BlobFinding['kind'], digest: Digest, descriptor: Descriptor | undefined): BlobFinding {
  const what = descriptor === undefined ? 'content' : `content of type ${descriptor.mediaType}`
  const message =
    kind === 'blob-damaged' ? `${what} is not what its digest ${digest} says` : `${what} is missing: ${digest}`
  return { kind, digest, descriptor, message, images: [], containers: [] }
}
