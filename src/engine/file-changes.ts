import { bytesToText } from '../layer/apply/names.ts'
import { openAnything } from '../layer/diff/tree-calls.ts'
import type { TreeNode } from '../layer/diff/tree-node.ts'
import { succeeded, type Tree, type TreeReader } from '../layer/diff/tree-reader.ts'
import { changedNodes } from '../layer/diff/trees.ts'
import { isOpaque, isWhiteout } from '../layer/diff/upper.ts'
import { walkTree } from '../layer/diff/walk.ts'
import type { OverlayMarks } from '../layer/diff/xattrs.ts'
import { close } from '../linux/calls/files.ts'

/** Something in a container that is not as in its image. */
export interface FileChange {
  /** Absolute; what is no UTF-8 in it has replacement characters. */
  readonly path: string
  readonly kind: 'added' | 'changed' | 'deleted'
}

/** Names that are looked up in the image at a time. */
const atOnce = 200

/**
 * What an overlay's upper directory changes. `image` is what is below, as overlayfs shows it; a directory counts
 * as changed when something in it is, as with Docker.
 */
export async function* fileChanges(
  upper: TreeReader,
  image: TreeReader | undefined,
  marks: OverlayMarks,
): AsyncGenerator<FileChange, void, undefined> {
  let window: TreeNode[] = []
  for await (const node of walkTree(upper)) {
    if (node.path === '') continue
    window.push(node)
    if (window.length < atOnce) continue
    yield* judge(window, image, upper, marks)
    window = []
  }
  yield* judge(window, image, upper, marks)
}

/** What makes one tree into another. */
export async function* treeChanges(before: Tree, after: Tree): AsyncGenerator<FileChange, void, undefined> {
  for await (const change of changedNodes(before, after)) {
    const { path } = (change.after ?? change.before) as TreeNode
    if (path === '') continue
    const kind = change.before === undefined ? 'added' : change.after === undefined ? 'deleted' : 'changed'
    yield { path: `/${bytesToText(path)}`, kind }
  }
}

async function* judge(
  nodes: readonly TreeNode[],
  image: TreeReader | undefined,
  upper: TreeReader,
  marks: OverlayMarks,
): AsyncGenerator<FileChange, void, undefined> {
  const present = image === undefined ? new Set<string>() : await presentIn(image, nodes)
  for (const node of nodes) {
    const path = `/${bytesToText(node.path)}`
    if (isWhiteout(node)) {
      if (present.has(node.path)) yield { path, kind: 'deleted' }
      continue
    }
    yield { path, kind: present.has(node.path) ? 'changed' : 'added' }
    if (image === undefined || node.type !== 'directory' || !isOpaque(node, marks)) continue
    const kept = new Set((await upper.children(node.path)).map((child) => child.path))
    for (const child of await image.children(node.path)) {
      if (!kept.has(child.path)) yield { path: `/${bytesToText(child.path)}`, kind: 'deleted' }
    }
  }
}

async function presentIn(image: TreeReader, nodes: readonly TreeNode[]): Promise<ReadonlySet<string>> {
  if (nodes.length === 0) return new Set()
  const asked = nodes.map(({ path }) => ({ path, opened: openAnything(path) }))
  const results = await image.process.run(
    asked.flatMap(({ opened }) => [opened, { ...close(opened), tolerate: 'any' }]),
  )
  return new Set(asked.flatMap(({ path, opened }) => (succeeded(opened, results.value(opened)) ? [path] : [])))
}
