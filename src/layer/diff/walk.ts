import type { ByteString } from '../apply/names.ts'
import type { TreeNode } from './tree-node.ts'
import type { TreeReader } from './tree-reader.ts'

/**
 * All that is in a tree, each directory before what is in it, names in the order of their bytes. The root, which
 * comes first, has the empty path. `enter` says which directories are looked into. Default: all.
 */
export async function* walkTree(
  reader: TreeReader,
  enter: (directory: TreeNode) => boolean = () => true,
): AsyncGenerator<TreeNode, void, undefined> {
  const root = await reader.root()
  yield root
  const open = [await Level.read(reader, root.path)]
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

  static async read(reader: TreeReader, path: ByteString): Promise<Level> {
    return new Level(await reader.children(path))
  }

  next(): TreeNode | undefined {
    const node = this.#nodes[this.#at]
    this.#at += 1
    return node
  }
}
