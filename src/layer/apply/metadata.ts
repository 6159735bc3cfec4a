import type { Call } from '../../linux/call.ts'
import type { IdMap } from '../../linux/id-maps.ts'
import type { TarEntry, TarEntryType, Timestamp, Xattr } from '../tar/entry.ts'
import { type Place, setMode, setOwner, setTimes, setXattr } from './calls.ts'
import { type ByteString, bytesToText, nameError } from './names.ts'
import type { CallSink, PlanOptions } from './planner.ts'
import { storedXattrs, xattrFault } from './xattrs.ts'

/** What an entry says of its owner, rights, times and extended attributes, checked. */
export interface Attributes {
  /** Name of the entry, for errors and warnings. */
  readonly entry: ByteString
  readonly uid: number
  readonly gid: number
  readonly mode: number
  readonly mtime: Timestamp
  readonly xattrs: readonly Xattr[]
}

/** Permissions of a directory until it gets its own. */
export const newDirectoryMode = 0o755

/** Largest id; the one above it means "leave it". */
const maxId = 0xffff_fffe

/** The attributes of an entry as they go on disk. @throws LayerError for what no file can have. */
export function attributesOf(entry: TarEntry, name: ByteString): Attributes {
  const { uid, gid, mode, mtime } = entry
  if (uid > maxId || gid > maxId) {
    throw nameError(name, `its owner ${uid}:${gid} is out of range`, 'User and group ids go up to 4294967294.')
  }
  return { entry: name, uid, gid, mode, mtime, xattrs: storedXattrs(entry.xattrs, name) }
}

/**
 * Plans the calls that give something its attributes, in the one order that works: chown takes
 * set-user-id bits and file capabilities away and must come first; a POSIX ACL changes the mode; all of
 * them change times.
 */
export class MetadataPlan {
  readonly #sink: CallSink
  readonly #options: PlanOptions
  readonly #opaque: string

  constructor(sink: CallSink, options: PlanOptions) {
    this.#sink = sink
    this.#options = options
    this.#opaque = options.userNamespace ? 'user.overlay.opaque' : 'trusted.overlay.opaque'
  }

  /**
   * Appends the calls for something that has just been made as root and without umask: with `mode & 0o777`, or as a
   * directory with {@link newDirectoryMode}.
   * @param isNew false for what was there before. Default: so are directories.
   */
  append(
    calls: Call[],
    place: Place,
    type: TarEntryType,
    attributes: Attributes,
    isNew: boolean = type !== 'directory',
  ): void {
    const { uid, gid, mode, xattrs } = attributes
    // What we make is ours: root's, or the one user's there is.
    const owned = this.#options.singleOwner || (uid === 0 && gid === 0 && isNew)
    if (!owned) {
      this.#checkOwner(attributes)
      calls.push(setOwner(place, uid, gid))
    }
    for (const xattr of xattrs) calls.push(this.#xattr(place, type, attributes, xattr))
    const made = type === 'directory' ? newDirectoryMode : mode & 0o777
    const exact = isNew && mode === made && xattrs.length === 0
    if (!exact && type !== 'symlink') calls.push(setMode(place, mode))
    calls.push(setTimes(place, attributes.mtime))
  }

  /** Adds the calls of {@link append} as a unit of their own. */
  add(place: Place, type: TarEntryType, attributes: Attributes, isNew?: boolean): void {
    const calls: Call[] = []
    this.append(calls, place, type, attributes, isNew)
    this.#sink.add(calls)
  }

  /** Marks a directory as opaque for overlayfs. */
  addOpaque(place: Place): void {
    const { tolerate, ...call } = setXattr(place, this.#opaque, Buffer.from('y'))
    this.#sink.add([call])
  }

  /** The kernel would only say EINVAL. */
  #checkOwner({ entry, uid, gid }: Attributes): void {
    const { ids } = this.#options
    if (ids === undefined || (isMapped(uid, ids.uidMappings) && isMapped(gid, ids.gidMappings))) return
    const hint = 'Give this user a larger range in /etc/subuid and /etc/subgid.'
    throw nameError(entry, `its owner ${uid}:${gid} is not among the ids of this user`, hint)
  }

  #xattr(place: Place, type: TarEntryType, attributes: Attributes, { name, value }: Xattr): Call {
    const call = setXattr(place, name, value)
    this.#sink.expect(call, (result) => {
      const reason = xattrFault(call, result, name, type, this.#options.userNamespace)
      if (reason === undefined) return
      const entry = bytesToText(attributes.entry)
      this.#options.onWarning?.({ entry, message: `attribute ${name} is not set: ${reason}` })
    })
    return call
  }
}

function isMapped(id: number, maps: readonly IdMap[] = []): boolean {
  return maps.some(({ containerID, size }) => id >= containerID && id < containerID + size)
}
