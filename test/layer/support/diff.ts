import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { type LayerItem, withContent, writeLayer } from '../../../src/layer/diff/layer-stream.ts'
import { openTree } from '../../../src/layer/diff/open-tree.ts'
import type { TreeReader } from '../../../src/layer/diff/tree-reader.ts'
import { changedEntries, type TreesOptions, treeEntries } from '../../../src/layer/diff/trees.ts'
import { type PlannedEntry, type UpperOptions, upperEntries } from '../../../src/layer/diff/upper.ts'
import type { Scratch } from './apply.ts'

/** All pieces of an archive. */
export async function collectLayer(items: AsyncIterable<LayerItem>): Promise<Buffer> {
  const pieces: Buffer[] = []
  for await (const piece of writeLayer(items)) pieces.push(Buffer.from(piece))
  return Buffer.concat(pieces)
}

async function archiveOf(
  directory: string,
  plan: (reader: TreeReader) => AsyncIterable<PlannedEntry>,
): Promise<Buffer> {
  const reader = await openTree(directory)
  try {
    return await collectLayer(withContent(reader, plan(reader)))
  } finally {
    await reader.close()
  }
}

/** The archive of a whole tree. */
export function packTree(directory: string, options?: TreesOptions): Promise<Buffer> {
  return archiveOf(directory, (reader) => treeEntries(reader, options))
}

/** The layer of an upper directory of an overlay. */
export function packUpper(directory: string, options: Partial<UpperOptions> = {}): Promise<Buffer> {
  return archiveOf(directory, (reader) => upperEntries(reader, { marks: 'trusted', ...options }))
}

/** The layer that makes one tree into another one. */
export async function packChanges(before: string, after: string, options?: TreesOptions): Promise<Buffer> {
  const old = await openTree(before)
  try {
    return await archiveOf(after, (reader) => changedEntries(old, reader, options))
  } finally {
    await old.close()
  }
}

/** An overlay of directories; `script` runs in a mount namespace where it is mounted on `$1`. */
export function inOverlay(scratch: Scratch, lower: readonly string[], script: string): { readonly upper: string } {
  const place = scratch.directory()
  const [upper, work, merged] = ['upper', 'work', 'merged'].map((name) => join(place, name)) as [string, string, string]
  for (const path of [upper, work, merged]) mkdirSync(path, { mode: 0o755 })
  const options = `lowerdir=${lower.join(':')},upperdir=${upper},workdir=${work},redirect_dir=off,metacopy=off,index=off`
  const mount = `mount -t overlay overlay -o ${options} ${merged} && cd ${merged} && set -- ${merged} && ${script}`
  execFileSync('unshare', ['-m', 'sh', '-ec', mount], { stdio: ['ignore', 'ignore', 'inherit'] })
  return { upper }
}

/** A copy of what an overlay of layers shows, the highest one first. */
export function merge(
  scratch: Scratch,
  layers: readonly string[],
  { tolerant = false }: { readonly tolerant?: boolean } = {},
): string {
  const place = scratch.directory()
  const empty = scratch.directory()
  mkdirSync(join(place, 'merged'))
  // In a directory of one layer only, overlayfs lists names that it then does not find.
  const copied = tolerant ? 'cp -a "$2/merged" "$2/copy" 2>/dev/null || true' : 'cp -a "$2/merged" "$2/copy"'
  const script = `mount -t overlay overlay -o ro,lowerdir="$1" "$2/merged"; ${copied}`
  execFileSync('unshare', ['-m', 'sh', '-ec', script, 'sh', [...layers, empty].join(':'), place])
  return join(place, 'copy')
}

/** A copy of a tree with all its attributes. */
export function copyTree(scratch: Scratch, from: string): string {
  const to = join(scratch.directory(), 'copy')
  execFileSync('cp', ['-a', from, to])
  return to
}
