import type { Arg, Call } from '../../linux/call.ts'
import {
  AT_FDCWD,
  close,
  makeDevice,
  O,
  O_DIRECTORY,
  RESOLVE,
  S_IFBLK,
  S_IFCHR,
  S_IFIFO,
} from '../../linux/calls/files.ts'
import type { IdMaps } from '../../linux/id-maps.ts'
import { makeDirectory, makeNode, makeSymlink, type Place, placeOf, removeName } from '../apply/calls.ts'
import { FilePlan } from '../apply/file.ts'
import { type Attributes, MetadataPlan } from '../apply/metadata.ts'
import { type ByteString, bytesToText, checkPath, nameError, normalize } from '../apply/names.ts'
import type { CallSink, LayerWarning } from '../apply/planner.ts'
import { foreignXattrs, overlayPrefixes } from '../apply/xattrs.ts'
import { rootDescriptor } from '../diff/tree-calls.ts'
import { displayName, type TarEntry, type TarHandler } from '../tar/entry.ts'

/** How an archive is put into a tree. */
export interface ExtractOptions {
  /** Directory that the names are relative to, from the root of the process; bytes. It must be there. */
  readonly directory: ByteString
  /** Whether the directory itself gets the attributes that the archive has for it. Default false: it is the caller's. */
  readonly includingItself?: boolean
  /** The name that an entry gets, instead of its own; normalised. Undefined leaves it out. */
  readonly rename?: (name: ByteString) => ByteString | undefined
  /** Owner of everything. Default: as the archive says. */
  readonly owner?: { readonly uid: number; readonly gid: number }
  /** Whether the process is in a user namespace: devices and some attributes can't be made then. */
  readonly userNamespace: boolean
  /** Whether there is but one owner: nothing is chowned. */
  readonly singleOwner: boolean
  /**
   * Whether what would give rights to others is left out: devices, set-user-ID and set-group-ID bits of files, file
   * capabilities. Default false.
   */
  readonly withoutRights?: boolean
  /** The ids that owners can be. Undefined where all are possible. */
  readonly ids?: IdMaps | undefined
  readonly onWarning?: (warning: LayerWarning) => void
}

const [S_ISUID, S_ISGID] = [0o4000, 0o2000]

/** Content of an archive that is left out. */
const ignored: FilePlanLike = { data() {}, hole() {}, end() {} }

type FilePlanLike = Pick<FilePlan, 'data' | 'hole' | 'end'>

/**
 * Puts the entries of an archive into a tree that is in use, as `tar -x` would: directories are merged, everything else
 * replaces what has its name. The calls are made by a process whose root is the tree and which has that open as
 * {@link rootDescriptor}: parents are found by the kernel, through symlinks but never out of the tree, and what is done there is
 * done by the last component alone, which is not followed. Whoever changes the tree meanwhile gains nothing.
 */
export class Extractor implements TarHandler {
  readonly #sink: CallSink
  readonly #options: ExtractOptions
  readonly #metadata: MetadataPlan
  /** Directories that were made sure of. */
  readonly #known = new Set<ByteString>([''])
  /** Attributes of directories, set when nothing is made in them any more. */
  readonly #directories = new Map<ByteString, Attributes>()
  /** Devices that were not made: other names of theirs are not either. */
  readonly #leftOut = new Set<ByteString>()
  /** The directory that the process is in. */
  #entered: ByteString | undefined
  #file: FilePlanLike | undefined

  constructor(sink: CallSink, options: ExtractOptions) {
    this.#sink = sink
    this.#options = options
    this.#metadata = new MetadataPlan(sink, {
      ...options,
      maxDepth: Number.POSITIVE_INFINITY,
      bottom: true,
      marks: 'overlay',
    })
  }

  entry(entry: TarEntry): void {
    this.#file = undefined
    const name = entry.name.toString('latin1')
    const path = this.#renamed(normalize(name))
    if (path === undefined || path === '') {
      if (entry.type === 'file') this.#file = ignored
      const isOwn = path === '' && entry.type === 'directory' && this.#options.includingItself === true
      if (isOwn) this.#directories.set('', this.#attributes(entry, name))
      return
    }
    const cut = path.lastIndexOf('/')
    this.#ensure(cut === -1 ? '' : path.slice(0, cut), name)
    this.#enter(cut === -1 ? '' : path.slice(0, cut))
    const base = path.slice(cut + 1)
    checkPath('', base, name)
    const place: Place = { ...placeOf(base), text: `/${bytesToText(this.#full(path))}` }
    // A directory stays: of that the kernel takes no link away.
    this.#sink.add([{ ...removeName(place, false), tolerate: 'any' }])
    this.#make(entry, place, path, name)
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
  }

  /** Adds the attributes of directories, from below. Each step is one of them. */
  *finish(): Generator<void, void, undefined> {
    for (const [path, attributes] of [...this.#directories].reverse()) {
      this.#enter(path)
      this.#metadata.add({ arg: '.', text: `/${bytesToText(this.#full(path))}` }, 'directory', attributes)
      yield
    }
  }

  #make(entry: TarEntry, place: Place, path: ByteString, name: ByteString): void {
    const attributes = this.#attributes(entry, name)
    switch (entry.type) {
      case 'file':
        this.#file = new FilePlan(place, entry.size, attributes, this.#sink, this.#metadata)
        return
      case 'directory':
        this.#sink.add([{ ...makeDirectory(place, 0o755), tolerate: 'EEXIST' }])
        this.#known.add(path)
        this.#directories.delete(path)
        this.#directories.set(path, attributes)
        return
      case 'hardlink':
        this.#hardLink(entry, place, name)
        return
      case 'symlink':
        this.#sink.add([makeSymlink(place, entry.linkName.toString('latin1'))])
        break
      default:
        this.#node(entry, place, path, attributes)
        return
    }
    this.#metadata.add(place, entry.type, attributes)
  }

  #node(entry: TarEntry, place: Place, path: ByteString, attributes: Attributes): void {
    const type = entry.type === 'fifo' ? S_IFIFO : entry.type === 'block' ? S_IFBLK : S_IFCHR
    const device = entry.type === 'fifo' ? 0 : makeDevice(entry.deviceMajor, entry.deviceMinor)
    const { userNamespace, withoutRights = false } = this.#options
    if (entry.type !== 'fifo' && (userNamespace || withoutRights)) {
      const message = userNamespace
        ? 'a device can not be made in a user namespace; it is left out'
        : 'a device is left out'
      this.#options.onWarning?.({ entry: bytesToText(attributes.entry), message })
      this.#leftOut.add(path)
      return
    }
    this.#sink.add([makeNode(place, type | (attributes.mode & 0o777), device)])
    this.#metadata.add(place, entry.type, attributes)
  }

  #hardLink(entry: TarEntry, place: Place, name: ByteString): void {
    const target = this.#renamed(normalize(entry.linkName.toString('latin1'), name))
    if (target === undefined || target === '') {
      throw nameError(name, `it is a hard link to ${JSON.stringify(displayName(entry.linkName))}, which is left out`)
    }
    if (this.#leftOut.has(target)) return
    const cut = target.lastIndexOf('/')
    const parent = this.#open(cut === -1 ? '' : target.slice(0, cut))
    const linked: Call = {
      kind: 'call',
      name: 'linkat',
      args: [parent, placeOf(target.slice(cut + 1)).arg, AT_FDCWD, place.arg, 0],
      path: place.text,
    }
    this.#sink.add([parent, linked, close(parent)])
  }

  /** Makes the directories above an entry that no entry has named. */
  #ensure(path: ByteString, name: ByteString): void {
    if (this.#known.has(path)) return
    const cut = path.lastIndexOf('/')
    const parent = cut === -1 ? '' : path.slice(0, cut)
    this.#ensure(parent, name)
    this.#enter(parent)
    const base = path.slice(cut + 1)
    checkPath('', base, name)
    this.#sink.add([{ ...makeDirectory(placeOf(base), 0o755), tolerate: 'EEXIST' }])
    this.#known.add(path)
  }

  #enter(path: ByteString): void {
    if (this.#entered === path) return
    const opened = this.#open(path)
    this.#sink.add([opened, { kind: 'call', name: 'fchdir', args: [opened] }, close(opened)])
    this.#entered = path
  }

  #open(path: ByteString): Call {
    const how = Buffer.alloc(24)
    how.writeBigUInt64LE(BigInt(O.PATH | O_DIRECTORY | O.CLOEXEC), 0)
    how.writeBigUInt64LE(BigInt(RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS), 16)
    const place = placeOf(this.#full(path))
    const args: readonly Arg[] = [rootDescriptor, place.arg, how, how.length]
    return { kind: 'call', name: 'openat2', args, path: `/${bytesToText(this.#full(path))}` }
  }

  #full(path: ByteString): ByteString {
    const { directory } = this.#options
    return directory === '' || path === '' ? directory + path : `${directory}/${path}`
  }

  #renamed(path: ByteString): ByteString | undefined {
    return this.#options.rename === undefined ? path : this.#options.rename(path)
  }

  /** What overlayfs or this machine would act on is left out. */
  #attributes({ type, uid, gid, mode: given, mtime, xattrs }: TarEntry, name: ByteString): Attributes {
    const { withoutRights = false } = this.#options
    const kept = xattrs.filter(({ name }) => {
      if (withoutRights && name === 'security.capability') return false
      return !foreignXattrs.has(name) && !overlayPrefixes.some((prefix) => name.startsWith(prefix))
    })
    const mode = withoutRights && type === 'file' ? given & ~(S_ISUID | S_ISGID) : given
    return { entry: name, mode, mtime, xattrs: kept, ...(this.#options.owner ?? { uid, gid }) }
  }
}
