import type { ByteString } from '../apply/names.ts'
import { opaqueMark, whiteoutPrefix } from '../apply/names.ts'
import type { TarEntry, Timestamp } from '../tar/entry.ts'
import type { TreeNode } from './tree-node.ts'
import { imageXattrs, type OverlayMarks } from './xattrs.ts'

/** Ids of one space that stand for as many of another. */
export interface IdRange {
  /** First id in the container. */
  readonly containerID: number
  /** First id in the file system. */
  readonly hostID: number
  readonly size: number
}

/** How the nodes of a tree become entries of a layer. */
export interface EntryOptions {
  /**
   * Which ids of the file system are which of the container; others stay as they are. Default: all are the same. Not for a
   * process in the container's user namespace, to which the kernel gives the container's ids.
   */
  readonly uidMappings?: readonly IdRange[]
  readonly gidMappings?: readonly IdRange[]
  /**
   * Latest time that an entry may have, in seconds; later ones become it. That is how two builds of the same
   * tree come out the same (`SOURCE_DATE_EPOCH` of reproducible-builds.org).
   */
  readonly latest?: number
  /** Where the tree has overlayfs' marks. Default: it has none, and attributes are what they are. */
  readonly marks?: OverlayMarks
}

const noBytes = Buffer.alloc(0)
const epoch: Timestamp = { seconds: 0, nanoseconds: 0 }

/** Makes entries of nodes, one after the other: a second name of a file becomes a hard link to the first one. */
export class EntryMaker {
  readonly #options: EntryOptions
  readonly #links = new Map<string, ByteString>()

  constructor(options: EntryOptions) {
    this.#options = options
  }

  /** The entry of a node; undefined for a socket, which no archive holds. */
  entry(node: TreeNode): TarEntry | undefined {
    const { type, path, size, target } = node
    if (type === 'socket') return undefined
    const common = this.#attributes(node)
    if (type !== 'directory' && node.links > 1) {
      const first = this.#links.get(node.inode)
      if (first !== undefined) {
        const linkName = Buffer.from(first, 'latin1')
        return { ...common, type: 'hardlink', name: nameOf(path), linkName, size: 0, xattrs: [] }
      }
      this.#links.set(node.inode, path)
    }
    const name = type === 'directory' ? directoryName(path) : nameOf(path)
    return { ...common, type, name, linkName: target, size }
  }

  #attributes(node: TreeNode): Omit<TarEntry, 'name' | 'linkName' | 'type' | 'size'> {
    const { uidMappings, gidMappings, latest, marks } = this.#options
    const { mode, mtime, deviceMajor, deviceMinor } = node
    return {
      mode,
      uid: mapped(node.uid, uidMappings),
      gid: mapped(node.gid, gidMappings),
      mtime: latest !== undefined && mtime.seconds >= latest ? { seconds: latest, nanoseconds: 0 } : mtime,
      deviceMajor,
      deviceMinor,
      xattrs: imageXattrs(node.xattrs, marks),
    }
  }
}

/** The mark that a name of lower layers is gone (image-spec, layer.md, "Whiteouts"). */
export function whiteoutEntry(directory: ByteString, base: ByteString): TarEntry {
  return markEntry(join(directory, `${whiteoutPrefix}${base}`))
}

/** The mark that all that lower layers have in the directory is gone ("Opaque Whiteout"). */
export function opaqueEntry(directory: ByteString): TarEntry {
  return markEntry(join(directory, opaqueMark))
}

/** Always the same, so that it does not tell when something was removed. */
function markEntry(path: ByteString): TarEntry {
  return {
    type: 'file',
    name: nameOf(path),
    linkName: noBytes,
    mode: 0,
    uid: 0,
    gid: 0,
    size: 0,
    mtime: epoch,
    deviceMajor: 0,
    deviceMinor: 0,
    xattrs: [],
  }
}

/** Joins a directory of a tree and a name in it. */
export function join(directory: ByteString, base: ByteString): ByteString {
  return directory === '' ? base : `${directory}/${base}`
}

/** The last component. */
export function baseOf(path: ByteString): ByteString {
  return path.slice(path.lastIndexOf('/') + 1)
}

/** The directory of the last component; empty for the root. */
export function parentOf(path: ByteString): ByteString {
  return path.slice(0, Math.max(path.lastIndexOf('/'), 0))
}

function nameOf(path: ByteString): Buffer {
  return Buffer.from(path, 'latin1')
}

function directoryName(path: ByteString): Buffer {
  return nameOf(path === '' ? './' : `${path}/`)
}

function mapped(id: number, ranges: readonly IdRange[] | undefined): number {
  const range = ranges?.find(({ hostID, size }) => id >= hostID && id < hostID + size)
  return range === undefined ? id : id - range.hostID + range.containerID
}
