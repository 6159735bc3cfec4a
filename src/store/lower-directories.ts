import { type BigIntStats, lstatSync } from 'node:fs'
import { lstat } from 'node:fs/promises'
import { NotFoundError } from '../errors.ts'
import { hasCode } from '../internal/file-error.ts'
import type { DirectoryAttributes } from '../layer/apply/apply.ts'
import type { LowerFile } from '../layer/apply/lower-links.ts'
import { opaqueMark, whiteoutPrefix } from '../layer/apply/names.ts'
import { overlayPrefixes } from '../layer/apply/xattrs.ts'
import { openLargeFile } from '../layer/diff/contents.ts'
import { openTree } from '../layer/diff/open-tree.ts'
import type { TreeReader } from '../layer/diff/tree-reader.ts'
import { call, out } from '../linux/call.ts'
import { makeDevice } from '../linux/calls/files.ts'
import { performFor } from '../linux/local.ts'

/** Where something is. */
export interface Place {
  readonly layer: Buffer
  /** Absolute, with no symlink below the layer but perhaps itself. */
  readonly path: Buffer
  readonly found: BigIntStats
}

/** Looks names up in unpacked layers, as overlayfs would show them. To be closed. */
export class LowerDirectories {
  readonly #visible: () => Promise<readonly string[]>
  #layers: Promise<readonly LayerView[]> | undefined
  /** Layers that a file has been looked for in. */
  readonly #readers = new Map<Buffer, Promise<TreeReader>>()

  /**
   * Gives the trees of the layers, the highest one first, without those that are hidden as a whole. It is asked when something
   * is looked up for the first time: the layers are there then.
   */
  constructor(visible: () => Promise<readonly string[]>) {
    this.#visible = visible
  }

  /**
   * Attributes of the directory at `path` (bytes, relative, without symlinks) in the highest layer that has
   * it; undefined when no layer has a directory there.
   */
  async lookup(path: Buffer): Promise<DirectoryAttributes | undefined> {
    const found = (await this.find(path))?.found
    return found?.isDirectory() === true ? attributesOf(found) : undefined
  }

  /** What is at `path` in the highest layer that has it, if it is no directory. */
  async file(path: Buffer): Promise<LowerFile | undefined> {
    const place = await this.find(path)
    if (place === undefined || place.found.isDirectory()) return undefined
    const reader = this.#readers.get(place.layer) ?? openTree(place.layer.toString())
    this.#readers.set(place.layer, reader)
    return lowerFile(await reader, path.toString('latin1'))
  }

  /** Ends what was started for {@link file}. */
  async close(): Promise<void> {
    for (const reader of this.#readers.values()) await (await reader.catch(() => undefined))?.close()
    this.#readers.clear()
  }

  /** What is at `path` in the highest layer that has it, and where that is; undefined when no layer has it. */
  async find(path: Buffer): Promise<Place | undefined> {
    this.#layers ??= this.#visible().then((paths) => paths.map((each) => new LayerView(Buffer.from(each))))
    for (const view of await this.#layers) {
      const seen = await view.at(path)
      if (seen === 'hidden') return undefined
      if (seen !== undefined) return { layer: view.path, path: pathIn(view.path, path), found: seen.found }
    }
    return undefined
  }
}

/** What one layer has at a path; `hidden` when that, or something on the way to it, hides what lower ones have there. */
type Seen = { readonly found: BigIntStats; readonly opaque: boolean } | 'hidden' | undefined

/** One unpacked layer. What has been looked at is kept: paths have most of their way in common. */
class LayerView {
  readonly path: Buffer
  readonly #seen = new Map<string, Promise<Seen>>()

  constructor(path: Buffer) {
    this.path = path
  }

  at(path: Buffer): Promise<Seen> {
    const key = path.toString('latin1')
    const known = this.#seen.get(key)
    if (known !== undefined) return known
    const seen = this.#look(path)
    this.#seen.set(key, seen)
    return seen
  }

  async #look(path: Buffer): Promise<Seen> {
    if (path.length === 0) return { found: await lstat(this.path, { bigint: true }), opaque: false }
    // Part by part: a symlink on the way must not lead out of the layer.
    const parent = await this.at(path.subarray(0, Math.max(0, path.lastIndexOf('/'))))
    if (parent === undefined || parent === 'hidden') return parent
    if (!parent.found.isDirectory()) return 'hidden'
    const at = pathIn(this.path, path)
    try {
      const found = await lstat(at, { bigint: true })
      if (isWhiteout(found)) return 'hidden'
      return { found, opaque: parent.opaque || (found.isDirectory() && isOpaque(at)) }
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error
      return parent.opaque || isThere(markOf(at, whiteoutPrefix)) ? 'hidden' : undefined
    }
  }
}

function pathIn(layer: Buffer, path: Buffer): Buffer {
  return Buffer.concat([layer, Buffer.from('/'), path])
}

function isWhiteout(found: BigIntStats): boolean {
  return found.isCharacterDevice() && found.rdev === 0n
}

/** The mark of that prefix for the last component of a path. */
function markOf(path: Buffer, prefix: string): Buffer {
  const cut = path.lastIndexOf('/') + 1
  return Buffer.concat([path.subarray(0, cut), Buffer.from(prefix), path.subarray(cut)])
}

function isThere(path: Buffer): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined
}

function isOpaque(directory: Buffer): boolean {
  return isThere(Buffer.concat([directory, Buffer.from(`/${opaqueMark}`)])) || hasOpaqueAttribute(directory)
}

/** Whether overlayfs' mark says so. A symlink is not followed. */
function hasOpaqueAttribute(directory: Buffer): boolean {
  const value = out(1)
  const terminated = Buffer.concat([directory, Buffer.from('\0')])
  return overlayPrefixes.some((prefix) => {
    const name = `${prefix}opaque`
    const asked = performFor(call('lgetxattr', [terminated, name, value, value.size], { tolerate: 'any' }))
    return asked.value === 1 && asked.bytes(value).toString('latin1') === 'y'
  })
}

async function lowerFile(reader: TreeReader, path: string): Promise<LowerFile | undefined> {
  const node = await reader.node(path)
  if (node === undefined || node.type === 'directory' || node.type === 'socket') return undefined
  const { type, uid, gid, mode, mtime, xattrs, size, target, deviceMajor, deviceMinor } = node
  return {
    type,
    uid,
    gid,
    mode,
    mtime,
    xattrs,
    size,
    target,
    device: makeDevice(deviceMajor, deviceMinor),
    async *content() {
      const content = await openLargeFile(reader, node)
      if (content === undefined) throw new NotFoundError(path, `${path} went away while it was read`)
      yield* content
    },
  }
}

function attributesOf({ uid, gid, mode, mtimeNs }: BigIntStats): DirectoryAttributes {
  const billion = 1_000_000_000n
  const nanoseconds = ((mtimeNs % billion) + billion) % billion
  const seconds = (mtimeNs - nanoseconds) / billion
  return {
    uid: Number(uid),
    gid: Number(gid),
    mode: Number(mode & 0o7777n),
    mtime: { seconds: Number(seconds), nanoseconds: Number(nanoseconds) },
  }
}
