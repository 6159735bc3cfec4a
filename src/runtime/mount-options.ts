import { MOUNT_ATTR, MOUNT_ATTR_ATIME, MS } from '../linux/calls/mounts.ts'

/** What the options of one mount ask for. */
export interface MountOptions {
  /** Bits of MOUNT_ATTR to set and to clear, for this mount alone … */
  readonly set: number
  readonly clear: number
  /** … and for all mounts below it (the options that begin with `r`). */
  readonly recursiveSet: number
  readonly recursiveClear: number
  /** One of MS.PRIVATE, SLAVE, SHARED, UNBINDABLE, and whether for all below. */
  readonly propagation: { readonly type: number; readonly recursive: boolean } | undefined
  /** `bind` or `rbind`. */
  readonly bind: 'bind' | 'rbind' | undefined
  /** Options that are the filesystem's own, in order. */
  readonly data: readonly string[]
}

type Change = readonly [set: number, clear: number]

/** Options of a single mount (runtime-spec, config.md, "Linux mount options"). */
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
  noatime: [MOUNT_ATTR.NOATIME, MOUNT_ATTR_ATIME],
  atime: [0, MOUNT_ATTR_ATIME],
  relatime: [0, MOUNT_ATTR_ATIME],
  norelatime: [0, MOUNT_ATTR_ATIME],
  strictatime: [MOUNT_ATTR.STRICTATIME, MOUNT_ATTR_ATIME],
  nostrictatime: [0, MOUNT_ATTR_ATIME],
  nosymfollow: [MOUNT_ATTR.NOSYMFOLLOW, 0],
  symfollow: [0, MOUNT_ATTR.NOSYMFOLLOW],
  defaults: [0, 0],
}

const propagations: Readonly<Record<string, number>> = {
  private: MS.PRIVATE,
  slave: MS.SLAVE,
  shared: MS.SHARED,
  unbindable: MS.UNBINDABLE,
}

/** Sorts the options of a mount; those that the table does not know go to the filesystem. */
export function parseMountOptions(options: readonly string[] = []): MountOptions {
  let [set, clear, recursiveSet, recursiveClear] = [0, 0, 0, 0]
  let propagation: MountOptions['propagation']
  let bind: MountOptions['bind']
  const data: string[] = []
  for (const option of options) {
    const single = lookup(attributes, option)
    const below = option.startsWith('r') ? lookup(attributes, option.slice(1)) : undefined
    const type = lookup(propagations, option) ?? lookup(propagations, option.replace(/^r/, ''))
    if (single !== undefined) {
      // The last word counts: what an option sets, a later one may clear.
      set = (set & ~single[1]) | single[0]
      clear = (clear & ~single[0]) | single[1]
    } else if (below !== undefined) {
      recursiveSet = (recursiveSet & ~below[1]) | below[0]
      recursiveClear = (recursiveClear & ~below[0]) | below[1]
    } else if (type !== undefined) {
      propagation = { type, recursive: option.startsWith('r') }
    } else if (option === 'bind' || option === 'rbind') {
      bind = option
    } else {
      data.push(option)
    }
  }
  return { set, clear, recursiveSet, recursiveClear, propagation, bind, data }
}

function lookup<T>(table: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(table, key) ? table[key] : undefined
}
