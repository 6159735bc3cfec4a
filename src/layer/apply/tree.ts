import { LimitError } from '../../errors.ts'
import { type ByteString, bytesToText, checkPath, join, nameError, whiteoutPrefix } from './names.ts'

/** A directory that this layer has made. */
export interface DirectoryNode {
  readonly kind: 'directory'
  /** Undefined for the root, and for what has been removed again. */
  parent: DirectoryNode | undefined
  /** Without symlinks, relative to the root; empty for the root. */
  readonly path: ByteString
  readonly children: Map<ByteString, Node>
  /** Names in it that lower layers must not show. */
  readonly whiteouts: Set<ByteString>
  /** Whether nothing of it in lower layers is seen. */
  opaque: boolean
}

/** Anything else that this layer has made. There are as many as a layer has files: each holds no more than it must. */
export class LeafNode {
  readonly kind: 'symlink' | 'other'
  /** Where a symlink points. */
  readonly target: ByteString
  readonly #parent: DirectoryNode
  readonly #base: ByteString

  /** @param target undefined for what is no symlink. */
  constructor(parent: DirectoryNode, base: ByteString, target: ByteString | undefined) {
    this.kind = target === undefined ? 'other' : 'symlink'
    this.target = target ?? ''
    this.#parent = parent
    this.#base = base
  }

  get path(): ByteString {
    return join(this.#parent.path, this.#base)
  }
}

/** What a name in the layer stands for. */
export type Node = DirectoryNode | LeafNode

/** How the tree tells what has to be done on disk. */
export interface TreeChanges {
  /** A directory that no entry has named is needed. */
  makeDirectory(node: DirectoryNode): void
  /** Something that this layer had made goes; what is in a directory has gone before it. */
  remove(node: Node): void
}

/** Symlinks that are followed for one path, as in the kernel. */
const maxLinks = 40

/**
 * What the layer that is being applied has made so far. Every layer goes into an empty directory, so
 * this is all there is: parents are found here, through the symlinks of the layer and never out of it,
 * and the kernel gets paths that have no symlink in them.
 */
export class LayerTree {
  readonly root: DirectoryNode = makeNode(undefined, '')
  readonly #changes: TreeChanges
  readonly #maxDepth: number
  /** Directories by the way they were named, so that files in one directory cost one walk. */
  readonly #known = new Map<ByteString, DirectoryNode>()

  constructor(changes: TreeChanges, maxDepth: number) {
    this.#changes = changes
    this.#maxDepth = maxDepth
  }

  /**
   * The directory that `path` (normalised) leads to; makes what is missing, also in place of a
   * file (as umoci does).
   * @throws LayerError for a loop of symlinks. @throws LimitError for a path that is too deep.
   */
  directory(path: ByteString, entry: ByteString): DirectoryNode {
    if (path === '') return this.root
    const known = this.#known.get(path)
    if (known !== undefined) return known
    const found = this.#walk(path, entry, true) as DirectoryNode
    this.#known.set(path, found)
    return found
  }

  /** What `path` (normalised) names, without following its last component; makes nothing. */
  lookup(path: ByteString, entry: ByteString): Node | undefined {
    const cut = path.lastIndexOf('/')
    const parent = cut === -1 ? this.root : this.#walk(path.slice(0, cut), entry, false)
    return parent?.children.get(path.slice(cut + 1))
  }

  /**
   * A place in the layer for what lower layers have at `path`; undefined when this layer hides that, or has something else
   * there.
   */
  place(path: ByteString, entry: ByteString): LeafNode | undefined {
    const parts = path.split('/')
    const base = parts.pop() as ByteString
    let at: DirectoryNode | undefined = this.root
    for (const [index, part] of [...parts, base].entries()) {
      if (at === undefined) break
      if (at.opaque || at.whiteouts.has(part)) return undefined
      const child: Node | undefined = at.children.get(part)
      if (child !== undefined && (index === parts.length || child.kind !== 'directory')) return undefined
      at = child as DirectoryNode | undefined
    }
    return this.addLeaf(this.directory(parts.join('/'), entry), base, entry)
  }

  /** Adds a directory of that name, which must be free. */
  addDirectory(parent: DirectoryNode, base: ByteString, entry: ByteString): DirectoryNode {
    // Its name would take something of lower layers away the next time the tree becomes a layer.
    if (base.startsWith(whiteoutPrefix)) throw nameError(entry, 'a directory can not have the name of a whiteout')
    checkPath(parent.path, base, entry)
    const node = makeNode(parent, join(parent.path, base))
    parent.children.set(base, node)
    return node
  }

  /** Adds a symlink (with its target) or something else under that name, which must be free. */
  addLeaf(parent: DirectoryNode, base: ByteString, entry: ByteString, target?: ByteString): LeafNode {
    checkPath(parent.path, base, entry)
    const node = new LeafNode(parent, base, target)
    parent.children.set(base, node)
    return node
  }

  /** Takes a name away, with all that is below it. */
  remove(parent: DirectoryNode, base: ByteString): void {
    const node = parent.children.get(base)
    if (node === undefined) return
    this.#known.clear()
    parent.children.delete(base)
    this.#removed(node)
  }

  #removed(node: Node): void {
    if (node.kind === 'directory') {
      for (const child of node.children.values()) this.#removed(child)
      node.parent = undefined
    }
    this.#changes.remove(node)
  }

  /** `length` components of the parent are to come, and one behind them. */
  #checkDepth(length: number, entry: ByteString): void {
    if (length < this.#maxDepth) return
    throw new LimitError(`path ${bytesToText(entry)}`, this.#maxDepth, 'components')
  }

  #walk(path: ByteString, entry: ByteString, make: boolean): DirectoryNode | undefined {
    let at = this.root
    let links = 0
    const rest = path.split('/').reverse()
    this.#checkDepth(rest.length, entry)
    for (let part = rest.pop(); part !== undefined; part = rest.pop()) {
      if (part === '' || part === '.') continue
      if (part === '..') {
        at = at.parent ?? this.root
        continue
      }
      let child = at.children.get(part)
      if (child?.kind === 'symlink') {
        links += 1
        if (links > maxLinks) throw nameError(entry, 'its path has too many symbolic links in it')
        if (child.target.startsWith('/')) at = this.root
        rest.push(...child.target.split('/').reverse())
        this.#checkDepth(rest.length, entry)
        continue
      }
      if (child?.kind !== 'directory') {
        if (!make) return undefined
        if (child !== undefined) this.remove(at, part)
        child = this.addDirectory(at, part, entry)
        this.#changes.makeDirectory(child)
      }
      at = child
    }
    return at
  }
}

function makeNode(parent: DirectoryNode | undefined, path: ByteString): DirectoryNode {
  return { kind: 'directory', parent, path, children: new Map(), whiteouts: new Set(), opaque: false }
}
