import type { Fetcher } from '../content/interfaces.ts'
import { documentLimits } from '../content/limits.ts'
import { readAll } from '../content/verify.ts'
import { NotFoundError } from '../errors.ts'
import { chainIds } from '../image/chain-id.ts'
import { type ImageConfig, parseImageConfig } from '../image/config.ts'
import type { Descriptor } from '../image/descriptor.ts'
import type { Digest } from '../image/digest.ts'
import { type ImageManifest, isIndex, parseManifestOrIndex, successors } from '../image/manifest.ts'
import { isConfigType, isIndexType, isManifestType } from '../image/media-type.ts'

/** A manifest or index that is in the store. */
export interface GraphNode {
  readonly descriptor: Descriptor
  /** Undefined for an index. */
  readonly manifest: ImageManifest | undefined
  /** What it consists of. */
  readonly children: readonly Descriptor[]
  /** What it is about, such as the image that a signature signs. */
  readonly subject: Digest | undefined
  /** Of a manifest that is an image, when its config is there. */
  readonly config: ImageConfig | undefined
  /** Its layers when they are unpacked, the bottom one first. */
  readonly chainIds: readonly Digest[]
}

/**
 * Manifests, indexes and configs as they refer to one another. Content does not change, so that each is read once;
 * made for one operation, and forgotten after it.
 */
export class ContentGraph {
  readonly #content: Fetcher
  readonly #nodes = new Map<Digest, Promise<GraphNode>>()

  constructor(content: Fetcher) {
    this.#content = content
  }

  /**
   * The node of a descriptor; undefined when it is no manifest or index, or is not in the store.
   * @throws SpecError, DigestMismatchError, SizeMismatchError, LimitError when it can't be read.
   */
  async node(descriptor: Descriptor): Promise<GraphNode | undefined> {
    if (!isManifestType(descriptor.mediaType) && !isIndexType(descriptor.mediaType)) return undefined
    const known = this.#nodes.get(descriptor.digest)
    const reading = known ?? this.#read(descriptor)
    if (known === undefined) this.#nodes.set(descriptor.digest, reading)
    try {
      return await reading
    } catch (error) {
      this.#nodes.delete(descriptor.digest)
      if (error instanceof NotFoundError) return undefined
      throw error
    }
  }

  /** All that `root` leads to in the store, each once: itself, manifests, configs and layers, and what is not there. */
  async *walk(root: Descriptor): AsyncGenerator<Descriptor, void, undefined> {
    const seen = new Set<Digest>()
    const pending = [root]
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      if (seen.has(next.digest)) continue
      seen.add(next.digest)
      yield next
      const node = await this.node(next)
      if (node !== undefined) pending.push(...node.children)
    }
  }

  /** The images that `root` is or, as an index, has in the store. */
  async images(root: Descriptor): Promise<readonly ImageNode[]> {
    const found: ImageNode[] = []
    for await (const descriptor of this.walk(root)) {
      const node = await this.node(descriptor)
      if (node !== undefined && isImage(node)) found.push(node)
    }
    return found
  }

  async #read(descriptor: Descriptor): Promise<GraphNode> {
    const { mediaType } = descriptor
    const limit = isIndexType(mediaType) ? documentLimits.index : documentLimits.manifest
    const parsed = parseManifestOrIndex(await readAll(this.#content, descriptor, limit), mediaType)
    const manifest = isIndex(parsed) ? undefined : parsed.value
    const config = manifest === undefined ? undefined : await this.#config(manifest)
    return {
      descriptor,
      manifest,
      children: successors(parsed),
      subject: parsed.value.subject?.digest,
      config,
      chainIds: config === undefined ? [] : chainIds(config.rootfs.diff_ids),
    }
  }

  async #config({ config }: ImageManifest): Promise<ImageConfig | undefined> {
    if (!isConfigType(config.mediaType)) return undefined
    try {
      return parseImageConfig(await readAll(this.#content, config, documentLimits.config)).value
    } catch (error) {
      if (error instanceof NotFoundError) return undefined
      throw error
    }
  }
}

/** A manifest of an image whose config is there. */
export interface ImageNode extends GraphNode {
  readonly manifest: ImageManifest
  readonly config: ImageConfig
}

function isImage(node: GraphNode): node is ImageNode {
  // Attestations are stored as images for a platform "unknown".
  return node.manifest !== undefined && node.config !== undefined && node.config.os !== 'unknown'
}
