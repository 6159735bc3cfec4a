import type { ByteString } from '../apply/names.ts'
import type { TreeNode } from './tree-node.ts'
import type { Tree } from './tree-reader.ts'

/** Which part of a tree is gone through. */
export interface WalkOptions {
  /** Where to begin. Default the root of the tree. */
  readonly from?: ByteString
  /** Which directories are looked into. Default: all. */
  readonly enter?: (directory: TreeNode) => boolean
}

/**
 * All that is in a tree, each directory before what is in it, names in the order of their bytes. The root, which
 * comes first, has the empty path.
 */
export async function* walkTree(
  reader: Tree,
  { from = '', enter = () => true }: WalkOptions = {},
): AsyncGenerator<TreeNode, void, undefined> {
  const first = from === '' ? await reader.root() : await reader.node(from)
  if (first === undefined) return
  yield first
  if (first.type !== 'directory' || !enter(first)) return
  const open = [await Level.read(reader, first.path)]
  for (let level = open.at(-1); level !== undefined; level = open.at(-1)) {
    const node = level.next()
    if (node === undefined) {
      open.pop()
      continue
    }
    yield node
    if (node.type === 'directory' && enter(node)) open.push(await Level.read(reader, node.path))
  }
}

/** A directory that is being gone through. */
class Level {
  readonly #nodes: readonly TreeNode[]
  #at = 0

  private constructor(nodes: readonly TreeNode[]) {
    this.#nodes = nodes
  }

  static async read(reader: Tree, path: ByteString): Promise<Level> {
    return new Level(await reader.children(path))
  }

  next(): TreeNode | undefined {
    const node = this.#nodes[this.#at]
    this.#at += 1
    return node
  }
}
