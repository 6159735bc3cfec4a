import type { ByteString } from '../apply/names.ts'
import { openLargeFile, readSmallFiles, smallFile } from './contents.ts'
import { baseOf, EntryMaker, type EntryOptions, parentOf, whiteoutEntry } from './entries.ts'
import type { TreeNode } from './tree-node.ts'
import { byBytes, type Tree } from './tree-reader.ts'
import { canBeHeld, type PlannedEntry, type UpperOptions } from './upper.ts'
import { type WalkOptions, walkTree } from './walk.ts'
import { imageXattrs } from './xattrs.ts'

/** How two trees are compared. */
export interface TreesOptions extends EntryOptions {
  readonly onWarning?: UpperOptions['onWarning']
}

/** The entries of a whole tree, or of a part of it. */
export async function* treeEntries(
  reader: Tree,
  options: TreesOptions & WalkOptions = {},
): AsyncGenerator<PlannedEntry, void, undefined> {
  const maker = new EntryMaker(options)
  for await (const node of walkTree(reader, options)) yield* planned(maker, node, options)
}

/** A name that two trees don't have in common, or not alike: in both it is changed. */
export interface NodeChange {
  readonly before: TreeNode | undefined
  readonly after: TreeNode | undefined
}

/**
 * The entries of the layer that makes `before` into `after`. What has the same attributes and, for a file, the same size and
 * time, is taken to be unchanged; where the times have no part of a second, which says that a tool has set them, the
 * content is compared as well.
 */
export async function* changedEntries(
  before: Tree,
  after: Tree,
  options: TreesOptions = {},
): AsyncGenerator<PlannedEntry, void, undefined> {
  const maker = new EntryMaker(options)
  for await (const change of changedNodes(before, after)) {
    if (change.after !== undefined) {
      yield* planned(maker, change.after, options)
      continue
    }
    const { path } = change.before as TreeNode
    yield { entry: whiteoutEntry(parentOf(path), baseOf(path)) }
  }
}

/**
 * What is different between two trees, names in the order of their bytes. A directory counts as changed when something in it
 * is, but for the root; of a directory that is gone nothing more is told.
 */
export async function* changedNodes(before: Tree, after: Tree): AsyncGenerator<NodeChange, void, undefined> {
  const [old, root] = [await before.root(), await after.root()]
  if (!sameAttributes(portable(old), portable(root))) yield { before: old, after: root }
  const links = new Links(before, after)
  // Each name has its turn when all that sorts before it, also below it, has had it.
  const open: Level[] = [{ pairs: await pairs(before, after, '', true), told: true, directory: root, former: old }]
  for (let level = open.at(-1); level !== undefined; level = open.at(-1)) {
    const pair = level.pairs.shift()
    if (pair === undefined) {
      open.pop()
      continue
    }
    const [lower, upper] = pair
    const same =
      lower !== undefined && upper !== undefined && (await isUnchanged({ before, after, links }, lower, upper))
    if (!same) {
      for (const above of open.filter(({ told }) => !told)) {
        above.told = true
        yield { before: above.former, after: above.directory }
      }
      yield { before: lower, after: upper }
    }
    if (upper?.type !== 'directory') continue
    const former = lower?.type === 'directory' ? lower : undefined
    open.push({
      pairs: await pairs(before, after, upper.path, former !== undefined),
      told: !same,
      directory: upper,
      former,
    })
  }
}

type Pair = readonly [before: TreeNode | undefined, after: TreeNode | undefined]

/** A directory that is being compared. */
interface Level {
  readonly pairs: Pair[]
  readonly directory: TreeNode
  readonly former: TreeNode | undefined
  /** Whether it has been told to be changed. */
  told: boolean
}

async function pairs(before: Tree, after: Tree, path: ByteString, both: boolean): Promise<Pair[]> {
  const [old, now] = await Promise.all([both ? before.children(path) : [], after.children(path)])
  const names = new Map<ByteString, Pair>()
  for (const node of old) names.set(node.path, [node, undefined])
  for (const node of now) names.set(node.path, [names.get(node.path)?.[0], node])
  return [...names].sort(([a], [b]) => byBytes(a, b)).map(([, pair]) => pair)
}

interface Compared {
  readonly before: Tree
  readonly after: Tree
  readonly links: Links
}

async function isUnchanged({ before, after, links }: Compared, lower: TreeNode, upper: TreeNode): Promise<boolean> {
  if (!sameAttributes(portable(lower), portable(upper))) return false
  if (upper.type !== 'directory' && !(await links.areSame(lower, upper))) return false
  if (upper.type !== 'file' || lower.inode === upper.inode || upper.mtime.nanoseconds !== 0) return true
  return sameContent(before, after, lower, upper)
}

/** A node with the attributes that a layer could have of it. */
function portable(node: TreeNode): TreeNode {
  return node.xattrs.length === 0 ? node : { ...node, xattrs: imageXattrs(node.xattrs, undefined) }
}

/** Which names are those of one file: looked up once, when there is the first one of several names. */
class Links {
  readonly #before: Tree
  readonly #after: Tree
  #found: Promise<readonly [before: Names, after: Names]> | undefined

  constructor(before: Tree, after: Tree) {
    this.#before = before
    this.#after = after
  }

  /** Whether two nodes have the same other names: one that is added is a link to the others, which then must be in the layer too. */
  async areSame(lower: TreeNode, upper: TreeNode): Promise<boolean> {
    if (lower.links === 1 && upper.links === 1) return true
    this.#found ??= Promise.all([namesOf(this.#before), namesOf(this.#after)])
    const [before, after] = await this.#found
    const [old, now] = [before.get(lower.inode) ?? [lower.path], after.get(upper.inode) ?? [upper.path]]
    return old.length === now.length && old.every((name, index) => name === now[index])
  }
}

/** The names of each file that has several, in order. */
type Names = ReadonlyMap<string, readonly ByteString[]>

async function namesOf(tree: Tree): Promise<Names> {
  const names = new Map<string, ByteString[]>()
  for await (const { type, links, inode, path } of walkTree(tree)) {
    if (type === 'directory' || links === 1) continue
    const known = names.get(inode)
    if (known === undefined) names.set(inode, [path])
    else known.push(path)
  }
  return names
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
export async function sameContent(before: Tree, after: Tree, a: TreeNode, b: TreeNode): Promise<boolean> {
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
