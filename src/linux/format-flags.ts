import type { Call } from './call.ts'
import { LOCK, MFD, O, O_DIRECTORY, O_NOFOLLOW } from './calls/files.ts'
import { MOUNT_ATTR, MS } from './calls/mounts.ts'
import { CLONE, PR } from './calls/processes.ts'

type Names = Readonly<Record<string, number>>

/** Names that are added up. */
interface FlagSet {
  readonly prefix: string
  readonly names: Names
  /** What the bits mean that are no flags. */
  readonly base?: (value: number) => string | undefined
  /** Whether that is printed behind the flags. */
  readonly baseLast?: boolean
}

const accessModes = ['O_RDONLY', 'O_WRONLY', 'O_RDWR'] as const
const { RDONLY: _, WRONLY: __, RDWR: ___, ...openFlags } = O

const open: FlagSet = {
  prefix: 'O_',
  names: { ...openFlags, DIRECTORY: O_DIRECTORY, NOFOLLOW: O_NOFOLLOW },
  base: (value) => accessModes[value & 3],
}

const signals: Names = { SIGHUP: 1, SIGINT: 2, SIGKILL: 9, SIGTERM: 15, SIGCHLD: 17, SIGCONT: 18, SIGSTOP: 19 }
const signal = { prefix: '', names: {}, base: (value: number) => nameOf(signals, value) } satisfies FlagSet

const { NEWTIME, ...cloneFlags } = CLONE
const namespaces: FlagSet = { prefix: 'CLONE_', names: { ...cloneFlags, NEWTIME } }
// The lowest byte of clone(2)'s flags is the signal that tells of the child's end.
const clone: FlagSet = { prefix: 'CLONE_', names: cloneFlags, base: signal.base, baseLast: true }

const atFlags = (removeOrAccess: string): FlagSet => ({
  prefix: 'AT_',
  names: {
    SYMLINK_NOFOLLOW: 0x100,
    [removeOrAccess]: 0x200,
    SYMLINK_FOLLOW: 0x400,
    NO_AUTOMOUNT: 0x800,
    EMPTY_PATH: 0x1000,
    RECURSIVE: 0x8000,
  },
})
const at = atFlags('EACCESS')
const atRemove = atFlags('REMOVEDIR')

const mount: FlagSet = { prefix: 'MS_', names: MS }
const unmount: FlagSet = { prefix: '', names: { MNT_FORCE: 1, MNT_DETACH: 2, MNT_EXPIRE: 4, UMOUNT_NOFOLLOW: 8 } }
const attributes: FlagSet = { prefix: 'MOUNT_ATTR_', names: MOUNT_ATTR }
const openTree: FlagSet = {
  prefix: '',
  names: { OPEN_TREE_CLONE: 1, OPEN_TREE_CLOEXEC: 0o2000000, AT_RECURSIVE: 0x8000, AT_EMPTY_PATH: 0x1000 },
}
const moveMount: FlagSet = { prefix: 'MOVE_MOUNT_', names: { F_EMPTY_PATH: 4, T_EMPTY_PATH: 0x40 } }
const closeRange: FlagSet = { prefix: 'CLOSE_RANGE_', names: { UNSHARE: 2, CLOEXEC: 4 } }
const memfd: FlagSet = { prefix: 'MFD_', names: MFD }
const lock: FlagSet = {
  prefix: 'LOCK_',
  names: { SH: LOCK.SHARED, EX: LOCK.EXCLUSIVE, NB: LOCK.NONBLOCKING, UN: LOCK.UNLOCK },
}
const fsconfigCommands: Names = { SET_FLAG: 0, SET_STRING: 1, SET_FD: 5, CMD_CREATE: 6 }
const fsconfig: FlagSet = { prefix: '', names: {}, base: (value) => prefixed('FSCONFIG_', fsconfigCommands, value) }
const prctlOperations: Names = Object.fromEntries(
  Object.entries(PR).filter(([name]) => !name.startsWith('CAP_AMBIENT_')),
)
const prctl: FlagSet = { prefix: '', names: {}, base: (value) => prefixed('PR_', prctlOperations, value) }

/** Which argument of which call is a set of flags. */
const sets: Readonly<Record<string, Readonly<Record<number, FlagSet>>>> = {
  openat: { 2: open },
  clone: { 0: clone },
  unshare: { 0: namespaces },
  setns: { 1: namespaces },
  mount: { 3: mount },
  umount2: { 1: unmount },
  open_tree: { 2: openTree },
  move_mount: { 4: moveMount },
  mount_setattr: { 2: at },
  fsmount: { 2: attributes },
  fsconfig: { 1: fsconfig },
  unlinkat: { 2: atRemove },
  fchownat: { 4: at },
  linkat: { 4: at },
  utimensat: { 3: at },
  faccessat2: { 3: at },
  statx: { 2: at },
  execveat: { 4: at },
  close_range: { 2: closeRange },
  memfd_create: { 1: memfd },
  flock: { 1: lock },
  prctl: { 0: prctl },
  kill: { 1: signal },
  pidfd_send_signal: { 1: signal },
}

/** The names of the flags that are argument `index` of a call; undefined when it is no set of known flags. */
export function formatFlags(call: Call, index: number): string | undefined {
  const set = Object.hasOwn(sets, call.name) ? sets[call.name]?.[index] : undefined
  const value = call.args[index]
  if (set === undefined || (typeof value !== 'number' && typeof value !== 'bigint')) return undefined
  return flagNames(Number(value), set)
}

function flagNames(value: number, set: FlagSet): string {
  const parts: string[] = []
  let rest = BigInt(value)
  for (const [name, bits] of Object.entries(set.names)) {
    const mask = BigInt(bits)
    if (mask === 0n || (rest & mask) !== mask) continue
    parts.push(`${set.prefix}${name}`)
    rest &= ~mask
  }
  const base = set.base?.(Number(rest))
  if (base !== undefined) return (set.baseLast === true ? [...parts, base] : [base, ...parts]).join('|')
  if (rest !== 0n) parts.push(`0x${rest.toString(16)}`)
  return parts.length === 0 ? '0' : parts.join('|')
}

function nameOf(names: Names, value: number): string | undefined {
  return Object.entries(names).find(([, number]) => number === value)?.[0]
}

function prefixed(prefix: string, names: Names, value: number): string | undefined {
  const name = nameOf(names, value)
  return name === undefined ? undefined : `${prefix}${name}`
}
