import type { ByteString } from '../apply/names.ts'
import { openLargeFile, readSmallFiles, smallFile } from './contents.ts'
import { baseOf, EntryMaker, type EntryOptions, whiteoutEntry } from './entries.ts'
import type { TreeNode } from './tree-node.ts'
import type { TreeReader } from './tree-reader.ts'
import { canBeHeld, type PlannedEntry, type UpperOptions } from './upper.ts'
import { type WalkOptions, walkTree } from './walk.ts'

/** How two trees are compared. */
export interface TreesOptions extends EntryOptions {
  readonly onWarning?: UpperOptions['onWarning']
}

/** The entries of a whole tree, or of a part of it. */
export async function* treeEntries(
  reader: TreeReader,
  options: TreesOptions & WalkOptions = {},
): AsyncGenerator<PlannedEntry, void, undefined> {
  const maker = new EntryMaker(options)
  for await (const node of walkTree(reader, options)) yield* planned(maker, node, options)
}

/**
 * The entries of the layer that makes `before` into `after`. What has the same attributes and, for a file, the same size and
 * time, is taken to be unchanged; where the times have no part of a second, which says that a tool has set them, the
 * content is compared as well.
 */
export async function* changedEntries(
  before: TreeReader,
  after: TreeReader,
  options: TreesOptions = {},
): AsyncGenerator<PlannedEntry, void, undefined> {
  const maker = new EntryMaker(options)
  const [old, root] = [await before.root(), await after.root()]
  if (!sameAttributes(old, root)) yield* planned(maker, root, options)
  // Each name has its turn when all that sorts before it, also below it, has had it.
  const open: Pair[][] = [await pairs(before, after, '', true)]
  for (let level = open.at(-1); level !== undefined; level = open.at(-1)) {
    const pair = level.shift()
    if (pair === undefined) {
      open.pop()
      continue
    }
    const [lower, upper] = pair
    if (upper === undefined) {
      const { path } = lower as TreeNode
      const base = baseOf(path)
      yield { entry: whiteoutEntry(path.slice(0, Math.max(0, path.length - base.length - 1)), base) }
      continue
    }
    if (lower === undefined || !(await isUnchanged(before, after, lower, upper))) yield* planned(maker, upper, options)
    if (upper.type === 'directory') open.push(await pairs(before, after, upper.path, lower?.type === 'directory'))
  }
}

type Pair = readonly [before: TreeNode | undefined, after: TreeNode | undefined]

async function pairs(before: TreeReader, after: TreeReader, path: ByteString, both: boolean): Promise<Pair[]> {
  const [old, now] = await Promise.all([both ? before.children(path) : [], after.children(path)])
  const names = new Map<ByteString, Pair>()
  for (const node of old) names.set(node.path, [node, undefined])
  for (const node of now) names.set(node.path, [names.get(node.path)?.[0], node])
  return [...names].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, pair]) => pair)
}

async function isUnchanged(before: TreeReader, after: TreeReader, lower: TreeNode, upper: TreeNode): Promise<boolean> {
  if (!sameAttributes(lower, upper)) return false
  // A name that is added is a link to one of the others, which then must be in the layer too.
  if (upper.type !== 'directory' && (lower.links > 1 || upper.links > 1)) return false
  if (upper.type !== 'file' || lower.inode === upper.inode || upper.mtime.nanoseconds !== 0) return true
  return sameContent(before, after, lower, upper)
}

/** Whether all is the same that can be said of two nodes without reading their content. */
export function sameAttributes(a: TreeNode, b: TreeNode): boolean {
  const same =
    a.type === b.type &&
    a.mode === b.mode &&
    a.uid === b.uid &&
    a.gid === b.gid &&
    a.size === b.size &&
    a.mtime.seconds === b.mtime.seconds &&
    a.mtime.nanoseconds === b.mtime.nanoseconds &&
    a.deviceMajor === b.deviceMajor &&
    a.deviceMinor === b.deviceMinor &&
    a.target.equals(b.target) &&
    a.xattrs.length === b.xattrs.length
  return (
    same &&
    a.xattrs.every(({ name, value }) => b.xattrs.some((other) => other.name === name && other.value.equals(value)))
  )
}

/** Whether two files of the same size have the same content. */
export async function sameContent(before: TreeReader, after: TreeReader, a: TreeNode, b: TreeNode): Promise<boolean> {
  if (a.size <= smallFile) {
    const [old, now] = await Promise.all([readSmallFiles(before, [a]), readSmallFiles(after, [b])])
    const [content, other] = [old.get(a), now.get(b)]
    return content !== undefined && other !== undefined && content.equals(other)
  }
  const [old, now] = await Promise.all([openLargeFile(before, a), openLargeFile(after, b)])
  try {
    for (let rest = a.size; rest > 0 && old !== undefined && now !== undefined; ) {
      const [content, other] = [(await old.next()).value, (await now.next()).value]
      if (content === undefined || other === undefined || !content.equals(other)) return false
      rest -= content.length
    }
    return old !== undefined && now !== undefined
  } finally {
    await Promise.all([old?.return(), now?.return()])
  }
}

function* planned(
  maker: EntryMaker,
  node: TreeNode,
  { onWarning }: TreesOptions,
): Generator<PlannedEntry, void, undefined> {
  if (!canBeHeld(node, onWarning)) return
  const entry = maker.entry(node)
  if (entry !== undefined) yield entry.type === 'file' && entry.size > 0 ? { entry, node } : { entry }
}
