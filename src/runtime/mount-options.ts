import { MOUNT_ATTR, MOUNT_ATTR_ATIME, MS } from '../linux/calls/mounts.ts'

/** Bits of MOUNT_ATTR to set and to clear. */
export interface AttributeChange {
  readonly set: number
  readonly clear: number
}

/** What the options of one mount ask for. */
export interface MountOptions {
  /** For this mount alone … */
  readonly own: AttributeChange
  /** … and for all mounts below it, too (the options that begin with `r`). */
  readonly recursive: AttributeChange
  /** MS.PRIVATE, SLAVE, SHARED, UNBINDABLE in the order in which they are asked for, and whether for all below. */
  readonly propagation: readonly { readonly type: number; readonly recursive: boolean }[]
  /** `bind` or `rbind`. */
  readonly bind: 'bind' | 'rbind' | undefined
  /** Whether the owners are mapped, and whether for all mounts below. */
  readonly idmap: 'idmap' | 'ridmap' | undefined
  /** Whether the mount that is there is changed, and none is made. */
  readonly remount: boolean
  /** Whether what lies below a new tmpfs is copied to it. */
  readonly copyUp: boolean
  /** Bits of MS that belong to the file system and not to the mount. */
  readonly superBlock: number
  /** Options that are the filesystem's own, in order. */
  readonly data: readonly string[]
}

type Change = readonly [set: number, clear: number]

// The kernel has no bit for it: it is what remains without the other two.
const RELATIME = 0x40
const { NOATIME, STRICTATIME } = MOUNT_ATTR

/** Options of a mount (runtime-spec, config.md, "Linux mount options"); with `r` before them they are recursive. */
const attributes: Readonly<Record<string, Change>> = {
  ro: [MOUNT_ATTR.RDONLY, 0],
  rw: [0, MOUNT_ATTR.RDONLY],
  nosuid: [MOUNT_ATTR.NOSUID, 0],
  suid: [0, MOUNT_ATTR.NOSUID],
  nodev: [MOUNT_ATTR.NODEV, 0],
  dev: [0, MOUNT_ATTR.NODEV],
  noexec: [MOUNT_ATTR.NOEXEC, 0],
  exec: [0, MOUNT_ATTR.NOEXEC],
  nodiratime: [MOUNT_ATTR.NODIRATIME, 0],
  diratime: [0, MOUNT_ATTR.NODIRATIME],
  noatime: [NOATIME, 0],
  atime: [0, NOATIME],
  relatime: [RELATIME, 0],
  norelatime: [0, RELATIME],
  strictatime: [STRICTATIME, 0],
  nostrictatime: [0, STRICTATIME],
  nosymfollow: [MOUNT_ATTR.NOSYMFOLLOW, 0],
  symfollow: [0, MOUNT_ATTR.NOSYMFOLLOW],
}

/** Options of the file system as a whole. */
const superBlockFlags: Readonly<Record<string, Change>> = {
  sync: [MS.SYNCHRONOUS, 0],
  async: [0, MS.SYNCHRONOUS],
  dirsync: [MS.DIRSYNC, 0],
  mand: [MS.MANDLOCK, 0],
  nomand: [0, MS.MANDLOCK],
  lazytime: [MS.LAZYTIME, 0],
  nolazytime: [0, MS.LAZYTIME],
  iversion: [MS.I_VERSION, 0],
  noiversion: [0, MS.I_VERSION],
  // Not in the table, but known to runc and so to those who write for it.
  acl: [MS.POSIXACL, 0],
  noacl: [0, MS.POSIXACL],
  silent: [MS.SILENT, 0],
  loud: [0, MS.SILENT],
}

const propagations: Readonly<Record<string, number>> = {
  private: MS.PRIVATE,
  slave: MS.SLAVE,
  shared: MS.SHARED,
  unbindable: MS.UNBINDABLE,
}

/** Names of all options that mean something to the runtime. */
export const knownMountOptions: readonly string[] = [
  ...['bind', 'defaults', 'idmap', 'rbind', 'remount', 'ridmap', 'tmpcopyup'],
  ...Object.keys(superBlockFlags),
  ...Object.keys({ ...attributes, ...propagations }).flatMap((name) => [name, `r${name}`]),
].sort()

/** Sorts the options of a mount; those that the table does not know go to the filesystem. */
export function parseMountOptions(options: readonly string[] = []): MountOptions {
  let own: Change = [0, 0]
  let recursive: Change = [0, 0]
  let superBlock: Change = [0, 0]
  const propagation: MountOptions['propagation'][number][] = []
  const flags = new Set<string>()
  const data: string[] = []
  for (const option of options) {
    const below = option.startsWith('r') ? option.slice(1) : ''
    const type = lookup(propagations, option) ?? lookup(propagations, below)
    if (Object.hasOwn(attributes, option)) own = changed(own, attributes[option])
    else if (Object.hasOwn(attributes, below)) recursive = changed(recursive, attributes[below])
    else if (Object.hasOwn(superBlockFlags, option)) superBlock = changed(superBlock, superBlockFlags[option])
    else if (type !== undefined) propagation.push({ type, recursive: !Object.hasOwn(propagations, option) })
    else if (/^(?:r?bind|r?idmap|remount|tmpcopyup|defaults)$/.test(option)) flags.add(option)
    else data.push(option)
  }
  return {
    own: withAccessTimes(own),
    recursive: withAccessTimes(recursive),
    propagation,
    bind: flags.has('rbind') ? 'rbind' : flags.has('bind') ? 'bind' : undefined,
    idmap: flags.has('ridmap') ? 'ridmap' : flags.has('idmap') ? 'idmap' : undefined,
    remount: flags.has('remount'),
    copyUp: flags.has('tmpcopyup'),
    superBlock: superBlock[0],
    data,
  }
}

/** The last word counts: what an option sets, a later one may clear. */
function changed([set, clear]: Change, [more, less]: Change = [0, 0]): Change {
  return [(set & ~less) | more, (clear & ~more) | less]
}

/** mount(2) has flags for access times, of which one wins; mount_setattr(2) has one field with a mode. */
function withAccessTimes([set, clear]: Change): AttributeChange {
  const all = NOATIME | STRICTATIME | RELATIME
  if (((set | clear) & all) === 0) return { set, clear }
  const mode = (set & STRICTATIME) !== 0 ? STRICTATIME : set & NOATIME
  return { set: (set & ~all) | mode, clear: (clear & ~all) | MOUNT_ATTR_ATIME }
}

function lookup<T>(table: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(table, key) ? table[key] : undefined
}
