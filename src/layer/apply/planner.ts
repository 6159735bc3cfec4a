import type { Arg, Call } from '../../linux/call.ts'
import { makeDevice, S_IFBLK, S_IFCHR, S_IFIFO, S_IFREG } from '../../linux/calls/files.ts'
import type { IdMaps } from '../../linux/id-maps.ts'
import { displayName, type TarEntry, type TarHandler } from '../tar/entry.ts'
import {
  makeDirectory,
  makeHardLink,
  makeNode,
  makeSymlink,
  type Place,
  placeOf,
  removeName,
  setMode,
} from './calls.ts'
import { FilePlan } from './file.ts'
import { type LowerFile, type LowerLink, LowerLinks } from './lower-links.ts'
import { type Attributes, attributesOf, MetadataPlan, newDirectoryMode } from './metadata.ts'
import { type ByteString, bytesToText, classify, nameError, normalize, opaqueMark, whiteoutPrefix } from './names.ts'
import { type DirectoryNode, LayerTree, type LeafNode, type Node } from './tree.ts'

/** Something of the layer that this machine can't hold as it is; the layer is applied without it. */
export interface LayerWarning {
  /** Name of the archive entry. */
  readonly entry: string
  readonly message: string
}

/** A directory that no entry has named. */
export interface UnnamedDirectory {
  /** Relative to the root of the layer; empty for the root. */
  readonly path: Buffer
  /** Gives it attributes. */
  inherit(attributes: Pick<Attributes, 'uid' | 'gid' | 'mode' | 'mtime'>): void
}

/** Looks at the result of a call. What it throws is the failure of the layer. */
export type Judge = (result: number, call: Call) => void

/** Where the calls of a plan go. */
export interface CallSink {
  /** Says that the next calls that are added have that much content, in bytes. */
  reserve(size: number): void
  /** What stands for a copy of `bytes` in the next calls that are added. */
  content(bytes: Uint8Array): Arg
  /** Has `judge` called with the result of `call`, which is part of the next calls that are added. */
  expect(call: Call, judge: Judge): void
  /** Calls that belong together: one may use the results of the others. */
  add(calls: readonly Call[]): void
}

/**
 * How an unpacked layer says that something of lower layers is gone: by overlayfs' marks; or, where its devices and attributes
 * can't be made, by files of the names that an archive has for it.
 */
export type LayerMarks = 'overlay' | 'files'

/** How a layer is planned. */
export interface PlanOptions {
  readonly maxDepth: number
  /**
   * Whether the calls are made in a user namespace: overlayfs' marks are `user.overlay.…` then, and
   * devices become empty files.
   */
  readonly userNamespace: boolean
  /** Whether every owner is the one user that there is: nothing is chowned. */
  readonly singleOwner: boolean
  /** The ids that owners can be. Undefined where all are possible. */
  readonly ids?: IdMaps | undefined
  /** Whether there is no layer below: whiteouts mean nothing then. */
  readonly bottom: boolean
  readonly marks: LayerMarks
  readonly onWarning?: (warning: LayerWarning) => void
}

/**
 * Turns the entries of a layer into system calls that make the layer in an empty directory, in the form
 * that overlayfs stacks: what is whited out becomes a character device 0:0, an opaque directory gets
 * overlayfs' attribute; or with files as marks. Pure: it makes no call, it only adds them to the sink.
 *
 * Whiteouts speak of lower layers only (image-spec, layer.md), wherever in the archive they stand, so they
 * are written at the end, as are the attributes of directories: until then every directory belongs to us.
 */
export class LayerPlanner implements TarHandler {
  /** Whether the layer hides all lower ones: it has an opaque whiteout in its root. */
  opaqueRoot = false
  /** The form of the marks in it; undefined when there are none. */
  marks: LayerMarks | undefined
  readonly #sink: CallSink
  readonly #options: PlanOptions
  readonly #tree: LayerTree
  readonly #metadata: MetadataPlan
  readonly #attributes = new Map<DirectoryNode, Attributes>()
  readonly #lowerLinks = new LowerLinks()
  /** Links that are made when a file of lower layers is complete. */
  #afterLower: Call[] = []
  /** Directories that no entry has named so far. */
  readonly #unnamed = new Set<DirectoryNode>()
  /** Whether anything of lower layers is to be hidden. */
  #hides = false
  /** The file whose content comes; undefined while the content of anything else is passed over. */
  #file: FilePlan | undefined

  constructor(sink: CallSink, options: PlanOptions) {
    this.#sink = sink
    this.#options = options
    this.#metadata = new MetadataPlan(sink, options)
    this.#tree = new LayerTree(
      {
        makeDirectory: (node) => {
          this.#unnamed.add(node)
          sink.add([makeDirectory(placeOf(node.path), newDirectoryMode)])
        },
        remove: (node) => this.#removed(node),
      },
      options.maxDepth,
    )
    this.#unnamed.add(this.#tree.root)
  }

  entry(entry: TarEntry): void {
    const name = entry.name.toString('latin1')
    const path = normalize(name)
    if (path === '') {
      if (entry.type !== 'directory') throw nameError(name, 'it stands for the root of the layer but is no directory')
      this.#name(this.#tree.root, attributesOf(entry, name))
      return
    }
    const cut = path.lastIndexOf('/')
    const base = lastPart(entry.name, name, path.slice(cut + 1))
    const kind = classify(base, name)
    if (kind.kind === 'ignored' || isAufs(path)) return
    const parent = this.#tree.directory(cut === -1 ? '' : path.slice(0, cut), name)
    if (kind.kind === 'opaque') this.#hides = parent.opaque = true
    else if (kind.kind === 'whiteout') this.#whiteout(parent, kind.name)
    else if (isOverlayWhiteout(entry)) this.#whiteout(parent, base)
    else if (entry.type === 'directory') this.#directory(parent, base, entry, name)
    else if (entry.type === 'hardlink') this.#hardLink(parent, base, entry, name)
    else this.#leaf(parent, base, entry, name)
  }

  data(chunk: Buffer): void {
    this.#file?.data(chunk)
  }

  hole(length: number): void {
    this.#file?.hole(length)
  }

  entryEnd(): void {
    this.#file?.end()
    this.#file = undefined
    if (this.#afterLower.length === 0) return
    for (const call of this.#afterLower) this.#sink.add([call])
    this.#afterLower = []
  }

  /**
   * Hard links to files of lower layers, which were not made yet: overlayfs has no links between layers, so that the file
   * itself must be in this one. To be asked for when all entries have been read.
   */
  lowerLinks(): readonly LowerLink[] {
    return this.#lowerLinks.all()
  }

  /**
   * Makes a file of lower layers part of this one, and its new names links to it. When it is a file with content, that is to
   * be handed to {@link data}; {@link entryEnd} is to be called then in any case, and the links are made.
   */
  beginLower(link: LowerLink, file: LowerFile): void {
    const [first, ...others] = link.nodes
    const own = this.#tree.place(link.path, link.entry)
    const node = own ?? (first as LeafNode)
    const rest = own === undefined ? others : link.nodes
    const place = placeOf(node.path)
    const attributes: Attributes = { ...file, entry: link.entry }
    if (file.type === 'file') this.#file = new FilePlan(place, file.size, attributes, this.#sink, this.#metadata)
    else {
      if (file.type === 'symlink') this.#sink.add([makeSymlink(place, file.target.toString('latin1'))])
      else this.#sink.add([makeNode(place, nodeTypes[file.type] | (file.mode & 0o777), file.device)])
      this.#metadata.add(place, file.type, attributes)
    }
    this.#afterLower = rest.map((each) => makeHardLink(placeOf(each.path), place))
  }

  /**
   * Directories that no entry gave attributes, the root perhaps among them. What lower layers have under
   * that path gives them theirs (containerd does the same): overlayfs shows those of the highest layer.
   */
  unnamedDirectories(): readonly UnnamedDirectory[] {
    return Array.from(this.#unnamed, (node) => ({
      path: Buffer.from(node.path, 'latin1'),
      inherit: (attributes) => {
        this.#attributes.set(node, { ...attributes, entry: node.path, xattrs: [] })
      },
    }))
  }

  /**
   * Adds what can only be done when all entries are known: whiteouts, opaque directories, attributes of
   * directories. The iteration stops where `isEnough` says so, so that a caller can let others run.
   */
  *finish(isEnough: () => boolean): Generator<void, void, undefined> {
    this.opaqueRoot = this.#tree.root.opaque
    if (this.#hides && !this.#options.bottom) yield* this.#hide(this.#tree.root, false, isEnough)
    if (!this.#attributes.has(this.#tree.root)) this.#sink.add([setMode(placeOf(''), 0o755)])
    for (const [node, attributes] of this.#attributes) {
      this.#metadata.add(placeOf(node.path), 'directory', attributes, node !== this.#tree.root)
      if (isEnough()) yield
    }
  }

  #whiteout(parent: DirectoryNode, base: ByteString): void {
    parent.whiteouts.add(base)
    this.#hides = true
  }

  #directory(parent: DirectoryNode, base: ByteString, entry: TarEntry, name: ByteString): void {
    const attributes = attributesOf(entry, name)
    let node: Node | undefined = parent.children.get(base)
    if (node !== undefined && node.kind !== 'directory') this.#tree.remove(parent, base)
    if (node?.kind !== 'directory') {
      node = this.#tree.addDirectory(parent, base, name)
      this.#sink.add([makeDirectory(placeOf(node.path), newDirectoryMode)])
    }
    this.#name(node, attributes)
  }

  #name(node: DirectoryNode, attributes: Attributes): void {
    this.#unnamed.delete(node)
    this.#attributes.set(node, attributes)
  }

  #hardLink(parent: DirectoryNode, base: ByteString, entry: TarEntry, name: ByteString): void {
    const linkName = normalize(entry.linkName.toString('latin1'), name)
    const target = this.#tree.lookup(linkName, name)
    const shown = displayName(entry.linkName)
    if (target === undefined) {
      if (this.#options.bottom || linkName === '') {
        throw nameError(name, `it is a hard link to ${JSON.stringify(shown)}, which is not there`)
      }
      this.#tree.remove(parent, base)
      this.#lowerLinks.add(this.#tree.addLeaf(parent, base, name), linkName, name)
      return
    }
    if (target.kind === 'directory')
      throw nameError(name, `it is a hard link to the directory ${JSON.stringify(shown)}`)
    const existing = parent.children.get(base)
    if (existing === target) return
    if (existing?.kind === 'directory' && target.path.startsWith(`${existing.path}/`)) {
      throw nameError(name, 'it is a hard link to a file in the directory that it replaces')
    }
    this.#tree.remove(parent, base)
    const node = this.#tree.addLeaf(parent, base, name, target.kind === 'symlink' ? target.target : undefined)
    if (this.#lowerLinks.addSame(node, target)) return
    // Attributes are those of the file, which has them already.
    this.#sink.add([makeHardLink(placeOf(node.path), placeOf(target.path))])
  }

  #leaf(parent: DirectoryNode, base: ByteString, entry: TarEntry, name: ByteString): void {
    const attributes = attributesOf(entry, name)
    const target = entry.type === 'symlink' ? symlinkTarget(entry, name) : undefined
    // Never written in place: another name of the old file must keep the old content.
    this.#tree.remove(parent, base)
    const node = this.#tree.addLeaf(parent, base, name, target)
    const place = placeOf(node.path)
    if (entry.type === 'file') {
      this.#file = new FilePlan(place, entry.size, attributes, this.#sink, this.#metadata)
      return
    }
    if (target !== undefined) this.#sink.add([makeSymlink(place, target)])
    else if (!this.#device(place, entry, attributes, name)) return
    this.#metadata.add(place, entry.type, attributes)
  }

  /** Makes a device or fifo; false when an empty file takes its place. */
  #device(place: Place, entry: TarEntry, attributes: Attributes, name: ByteString): boolean {
    const device = entry.type === 'fifo' ? 0 : deviceOf(entry, name)
    const type = entry.type === 'fifo' ? S_IFIFO : entry.type === 'block' ? S_IFBLK : S_IFCHR
    if (entry.type === 'fifo' || !this.#options.userNamespace) {
      this.#sink.add([makeNode(place, type | (attributes.mode & 0o777), device)])
      return true
    }
    this.#options.onWarning?.({
      entry: bytesToText(attributes.entry),
      message: 'a device can not be made in a user namespace; an empty file takes its place',
    })
    const file = new FilePlan(place, 0, { ...attributes, mode: 0 }, this.#sink, this.#metadata)
    file.end()
    return false
  }

  #removed(node: Node): void {
    if (this.#lowerLinks.forget(node)) return
    if (node.kind === 'directory') {
      this.#attributes.delete(node)
      this.#unnamed.delete(node)
    }
    this.#sink.add([removeName(placeOf(node.path), node.kind === 'directory')])
  }

  /** Writes the marks for overlayfs. Below an opaque directory they would be seen as what they are. */
  *#hide(node: DirectoryNode, hidden: boolean, isEnough: () => boolean): Generator<void, void, undefined> {
    if (node.opaque && !hidden && node !== this.#tree.root) this.#markOpaque(node)
    const inside = hidden || node.opaque
    for (const name of node.whiteouts) {
      const child = node.children.get(name)
      if (child?.kind === 'directory') child.opaque = true
      else if (child === undefined && !inside) {
        this.#markGone(node, name)
      }
    }
    if (isEnough()) yield
    for (const child of node.children.values()) {
      if (child.kind === 'directory') yield* this.#hide(child, inside, isEnough)
    }
  }

  #markOpaque(node: DirectoryNode): void {
    this.marks = this.#options.marks
    if (this.marks === 'overlay') this.#metadata.addOpaque(placeOf(node.path))
    else this.#markFile(node, opaqueMark)
  }

  #markGone(parent: DirectoryNode, name: ByteString): void {
    this.marks = this.#options.marks
    if (this.marks === 'files') {
      this.#markFile(parent, whiteoutPrefix + name)
      return
    }
    const place = placeOf(this.#tree.addLeaf(parent, name, name).path)
    this.#sink.add([makeNode(place, S_IFCHR, 0)])
  }

  #markFile(parent: DirectoryNode, name: ByteString): void {
    this.#sink.add([makeNode(placeOf(this.#tree.addLeaf(parent, name, name).path), S_IFREG, 0)])
  }
}

/** The last component of a name, as a string of its own: a part of a string keeps all of that in memory. */
function lastPart(bytes: Buffer, name: ByteString, part: ByteString): ByteString {
  return name.endsWith(part) ? bytes.toString('latin1', name.length - part.length) : part
}

const nodeTypes = { character: S_IFCHR, block: S_IFBLK, fifo: S_IFIFO } as const

/** A character device 0:0 is overlayfs' own mark of something removed. */
function isOverlayWhiteout(entry: TarEntry): boolean {
  return entry.type === 'character' && entry.deviceMajor === 0 && entry.deviceMinor === 0
}

/** AUFS kept its hard link pool in such a directory. */
function isAufs(path: ByteString): boolean {
  return path.startsWith('.wh..wh.') && path.includes('/')
}

function symlinkTarget(entry: TarEntry, name: ByteString): ByteString {
  const target = entry.linkName.toString('latin1')
  if (target === '' || target.length > 4095) throw nameError(name, 'it is a symbolic link without a usable target')
  return target
}

/** Device numbers have 12 bits for the major and 20 for the minor part. */
function deviceOf({ deviceMajor, deviceMinor }: TarEntry, name: ByteString): number {
  if (deviceMajor > 0xfff || deviceMinor > 0xfffff) {
    throw nameError(name, `no device can have the number ${deviceMajor}:${deviceMinor}`)
  }
  return makeDevice(deviceMajor, deviceMinor)
}
