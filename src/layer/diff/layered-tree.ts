import { realpath } from 'node:fs/promises'
import { NotFoundError } from '../../errors.ts'
import { fileError } from '../../internal/file-error.ts'
import { type ByteString, bytesToText, opaqueMark, whiteoutPrefix } from '../apply/names.ts'
import { baseOf, join, parentOf } from './entries.ts'
import type { TreeNode } from './tree-node.ts'
import { byBytes, type Tree, type TreeProcess, TreeReader } from './tree-reader.ts'
import { isOpaque, isWhiteout } from './upper.ts'
import { imageXattrs } from './xattrs.ts'

/**
 * Unpacked layers as overlayfs shows them stacked, without a mount: what is opaque or gone in a layer hides what lower ones
 * have, directories are merged, attributes have the names that the image gave them. Layers may have either form of marks.
 */
export class LayeredTree implements Tree {
  readonly #reader: TreeReader
  /** Where the layers have each directory, the highest one first. */
  readonly #sources = new Map<ByteString, readonly ByteString[]>()

  private constructor(reader: TreeReader, layers: readonly ByteString[]) {
    this.#reader = reader
    this.#sources.set('', layers)
  }

  /**
   * Takes over `process`, whose root is that of this one.
   * @param layers Directories, the highest one first; at least one.
   * @throws SyscallError for one that is not there.
   */
  static async open(process: TreeProcess, layers: readonly string[]): Promise<LayeredTree> {
    const reader = await TreeReader.open(process)
    try {
      // No symlink is followed by the reader, and the store may be behind one.
      const paths = await Promise.all(layers.map((layer) => realpath(layer, 'buffer')))
      const sources = paths.map((path) => path.toString('latin1').slice(1))
      return new LayeredTree(reader, sources)
    } catch (error) {
      await reader.close()
      throw fileError(error, 'opening the layers')
    }
  }

  get process(): TreeProcess {
    return this.#reader.process
  }

  close(): Promise<void> {
    return this.#reader.close()
  }

  async root(): Promise<TreeNode> {
    const [highest = ''] = this.#sources.get('') ?? []
    const node = await this.#reader.node(highest)
    if (node === undefined) throw new NotFoundError(highest, `the layer in /${bytesToText(highest)} is gone`)
    return this.#seen(node, '')
  }

  async node(path: ByteString): Promise<TreeNode | undefined> {
    return (await this.children(parentOf(path))).find((node) => node.path === path)
  }

  async children(path: ByteString): Promise<readonly TreeNode[]> {
    const found = new Map<ByteString, Found>()
    // What a directory is made of is found out by looking into the one above it.
    if (!this.#sources.has(path)) await this.children(parentOf(path))
    for (const source of this.#sources.get(path) ?? []) {
      const nodes = await this.#reader.children(source)
      for (const node of nodes) this.#add(found, node)
      if (nodes.some((node) => baseOf(node.path) === opaqueMark)) break
    }
    const nodes: TreeNode[] = []
    for (const [base, { node, sources }] of found) {
      if (node === undefined || isWhiteout(node)) continue
      const at = join(path, base)
      if (node.type === 'directory') this.#sources.set(at, sources)
      nodes.push(this.#seen(node, at))
    }
    return nodes.sort((a, b) => byBytes(a.path, b.path))
  }

  /** Adds what a layer has below those that came before. */
  #add(found: Map<ByteString, Found>, node: TreeNode): void {
    const base = baseOf(node.path)
    if (base.startsWith(whiteoutPrefix)) {
      this.#hide(found, base.slice(whiteoutPrefix.length))
      return
    }
    const above = found.get(base)
    const isDirectory = node.type === 'directory'
    if (above === undefined) {
      found.set(base, { node, sources: [node.path], isOpen: isDirectory && !isOpaque(node, 'either') })
    } else if (above.isOpen) {
      if (isDirectory) above.sources.push(node.path)
      above.isOpen = isDirectory && !isOpaque(node, 'either')
    }
  }

  #hide(found: Map<ByteString, Found>, base: ByteString): void {
    const above = found.get(base)
    if (above === undefined) found.set(base, { node: undefined, sources: [], isOpen: false })
    else above.isOpen = false
  }

  #seen(node: TreeNode, path: ByteString): TreeNode {
    return { ...node, path, source: node.path, xattrs: imageXattrs(node.xattrs, 'either') }
  }
}

/** The highest node of a name, undefined for one that is gone, and where the layers have it as a directory. */
interface Found {
  readonly node: TreeNode | undefined
  readonly sources: ByteString[]
  /** Whether lower layers still count. */
  isOpen: boolean
}
