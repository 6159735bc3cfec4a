import { UnsupportedError } from '../../errors.ts'
import { bytesToText, whiteoutPrefix } from '../apply/names.ts'
import type { TarEntry } from '../tar/entry.ts'
import { baseOf, EntryMaker, type EntryOptions, opaqueEntry, parentOf, whiteoutEntry } from './entries.ts'
import type { TreeNode } from './tree-node.ts'
import type { Tree } from './tree-reader.ts'
import { walkTree } from './walk.ts'
import { cannotBeNamed, type OverlayMarks, overlayMark } from './xattrs.ts'

/** Something that can't be part of a layer, which is made without it: a name, a socket, an extended attribute. */
export interface DiffWarning {
  /** Path in the tree. */
  readonly path: string
  readonly message: string
}

/** An entry, and the file that its content is read from. */
export interface PlannedEntry {
  readonly entry: TarEntry
  readonly node?: TreeNode
}

/** How the upper directory of an overlay becomes a layer. */
export interface UpperOptions extends EntryOptions {
  readonly marks: OverlayMarks
  readonly onWarning?: (warning: DiffWarning) => void
}

/**
 * The entries of the layer that an overlay's upper directory stands for: its device nodes 0:0 become whiteouts, its opaque
 * directories opaque whiteouts (image-spec, layer.md; Documentation/filesystems/overlayfs.rst).
 * @throws UnsupportedError for what overlayfs keeps only part of there: renamed directories (`redirect_dir`) and
 * copies of metadata (`metacopy`).
 */
export async function* upperEntries(
  reader: Tree,
  options: UpperOptions,
): AsyncGenerator<PlannedEntry, void, undefined> {
  const { marks } = options
  const maker = new EntryMaker(options)
  for await (const node of walkTree(reader)) {
    const { path } = node
    const base = baseOf(path)
    if (isWhiteout(node)) {
      yield { entry: whiteoutEntry(parentOf(path), base) }
      continue
    }
    checkWhole(node, marks)
    if (!canBeHeld(node, options.onWarning)) continue
    const entry = maker.entry(node)
    if (entry === undefined) continue
    yield entry.type === 'file' && entry.size > 0 ? { entry, node } : { entry }
    if (node.type === 'directory' && isOpaque(node, marks)) yield { entry: opaqueEntry(path) }
  }
}

/** Whether a node is overlayfs' mark that a name is gone. */
export function isWhiteout({ type, deviceMajor, deviceMinor }: TreeNode): boolean {
  return type === 'character' && deviceMajor === 0 && deviceMinor === 0
}

/** Whether a directory hides all that lower layers have in it. */
export function isOpaque(node: TreeNode, marks: OverlayMarks): boolean {
  return overlayMark(node.xattrs, 'opaque', marks) === 'y'
}

function checkWhole({ path, xattrs }: TreeNode, marks: OverlayMarks): void {
  for (const mark of ['redirect', 'metacopy']) {
    if (overlayMark(xattrs, mark, marks) === undefined) continue
    const reason = `overlayfs has only a part of /${bytesToText(path)} in the upper directory (${mark})`
    throw new UnsupportedError('making a layer of the changes', reason, {
      hint: 'Mount overlays with redirect_dir=off and metacopy=off.',
    })
  }
}

/** Whether a layer can have that name, and an archive that type; what it can't have is told, also of its attributes. */
export function canBeHeld(node: TreeNode, onWarning: UpperOptions['onWarning']): boolean {
  const { type, path } = node
  const isMark = baseOf(path).startsWith(whiteoutPrefix)
  const message = isMark
    ? `a layer can't hold a name that begins with ${whiteoutPrefix}`
    : type === 'socket'
      ? "a layer can't hold a socket"
      : undefined
  if (message === undefined) {
    for (const { name } of node.xattrs.filter(cannotBeNamed)) {
      const reason = `a layer can't hold the extended attribute ${name}: there is an equals sign in its name`
      onWarning?.({ path: `/${bytesToText(path)}`, message: reason })
    }
    return true
  }
  onWarning?.({ path: `/${bytesToText(path)}`, message })
  return false
}
