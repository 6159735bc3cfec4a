import { bytesToText, whiteoutPrefix } from '../layer/apply/names.ts'
import { baseOf } from '../layer/diff/entries.ts'
import { openTree } from '../layer/diff/open-tree.ts'
import type { TreeNode } from '../layer/diff/tree-node.ts'
import type { Tree } from '../layer/diff/tree-reader.ts'
import { sameAttributes, sameContent } from '../layer/diff/trees.ts'
import { isWhiteout } from '../layer/diff/upper.ts'

/** Differences that are told; of more it does not matter what they are. */
const enough = 10

/**
 * Where the tree in `found` is not what the one in `expected` is, as paths, at most ten: attributes, links and every
 * byte of content. Both are read by processes that can't leave them.
 */
export async function differences(expected: string, found: string, signal?: AbortSignal): Promise<readonly string[]> {
  const [one, other] = [await openTree(expected), await openTree(found)]
  try {
    return await compare(one, other, signal)
  } finally {
    await Promise.all([one.close(), other.close()])
  }
}

async function compare(one: Tree, other: Tree, signal?: AbortSignal): Promise<readonly string[]> {
  const different: string[] = []
  const pending: TreeNode[] = [await one.root()]
  if (!sameKind(pending[0] as TreeNode, await other.root())) different.push('/')
  for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
    const { path } = directory
    const [wanted, there] = [await one.children(path), await other.children(path)]
    const names = new Map(there.map((node) => [node.path, node]))
    for (const node of wanted) {
      signal?.throwIfAborted()
      const twin = names.get(node.path)
      names.delete(node.path)
      if (twin === undefined || !(await isSame(one, other, node, twin))) different.push(bytesToText(node.path))
      if (node.type === 'directory' && twin?.type === 'directory') pending.push(node)
    }
    different.push(...[...names.keys()].map(bytesToText))
    if (different.length >= enough) return different.slice(0, enough)
  }
  return different
}

async function isSame(one: Tree, other: Tree, node: TreeNode, twin: TreeNode): Promise<boolean> {
  if (!sameKind(node, twin) || (node.type !== 'directory' && node.links !== twin.links)) return false
  return node.type !== 'file' || sameContent(one, other, node, twin)
}

/** Marks of what is gone, and directories that no entry of the layer names, have the time at which they were made. */
function sameKind(node: TreeNode, twin: TreeNode): boolean {
  const isTimeless = node.type === 'directory' || isWhiteout(node) || baseOf(node.path).startsWith(whiteoutPrefix)
  return sameAttributes(node, isTimeless ? { ...twin, mtime: node.mtime } : twin)
}
