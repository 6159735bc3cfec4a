import type { Linux, LinuxNamespace, LinuxNamespaceType } from '../bundle/spec-linux.ts'
import type { Call } from '../linux/call.ts'
import { AT_FDCWD, close, ioctl, O, openat } from '../linux/calls/files.ts'
import { CLONE, clone, SOCK_CLOEXEC, setns, socket, unshare } from '../linux/calls/processes.ts'
import { procWrites } from './procfs.ts'

/** Flags of clone(2) and setns(2) by the name config.json has for a namespace. */
export const namespaceFlags: Readonly<Record<LinuxNamespaceType, number>> = {
  pid: CLONE.NEWPID,
  network: CLONE.NEWNET,
  mount: CLONE.NEWNS,
  ipc: CLONE.NEWIPC,
  uts: CLONE.NEWUTS,
  user: CLONE.NEWUSER,
  cgroup: CLONE.NEWCGROUP,
  time: CLONE.NEWTIME,
}

/** How a container gets its namespaces (runtime-spec, config-linux.md, "Namespaces"). */
export interface NamespacePlan {
  /** Flags of the clone that makes the first process, or the process before it. */
  readonly clone: number
  /** Made by the monitor: they take effect for its children only. */
  readonly monitorCalls: readonly Call[]
  /** A process between monitor and first process, where one is needed. */
  readonly stage: Stage | undefined
  /** Joined by the first process itself. */
  readonly joins: readonly Call[]
  /** Whether a type is new, and not joined or shared with the host. */
  isNew(type: LinuxNamespaceType): boolean
  /** Whether a type is new or joined, and not shared with the host. */
  has(type: LinuxNamespaceType): boolean
}

/**
 * A process that enters a user namespace, makes the first process as its brother and ends. What is made after that
 * belongs to the user namespace; and of a time namespace the clocks can be set only before somebody is in it.
 */
export interface Stage {
  readonly calls: readonly Call[]
  /** The call of {@link calls} whose result is the pid of the first process. */
  readonly clone: Call
}

/** What namespaces depend on besides their list. */
export interface NamespaceOptions {
  readonly timeOffsets?: Linux['timeOffsets']
  /** Descriptor of the first process's socket. */
  readonly channel: number
}

/** Sorts namespaces into those that are made and those that are joined by path. */
export function planNamespaces(namespaces: readonly LinuxNamespace[], options: NamespaceOptions): NamespacePlan {
  const fresh = new Set(namespaces.filter((ns) => !ns.path).map((ns) => ns.type))
  const joined = namespaces.filter((ns) => ns.path)
  const joins = (matching: (ns: LinuxNamespace) => boolean): readonly Call[] =>
    joined.filter(matching).flatMap((ns) => joinCalls(ns, namespaces.indexOf(ns)))
  const isUser = (ns: LinuxNamespace): boolean => ns.type === 'user'
  const forChildren = (ns: LinuxNamespace): boolean => ns.type === 'pid' || ns.type === 'time'
  const own = joins((ns) => !isUser(ns) && !forChildren(ns))
  const clocks = fresh.has('time') && options.timeOffsets !== undefined ? timeNamespaceCalls(options.timeOffsets) : []
  // The cgroup namespace is made when the process is in its cgroup, which then is the root of it.
  const cloned = [...fresh].filter((type) => type !== 'cgroup' && (type !== 'time' || clocks.length === 0))
  const plan = {
    isNew: (type: LinuxNamespaceType) => fresh.has(type),
    has: (type: LinuxNamespaceType) => namespaces.some((ns) => ns.type === type),
    joins: own,
  }
  const joinsUser = joined.some(isUser)
  if (joinsUser && (cloned.length > 0 || clocks.length > 0 || joined.some(forChildren))) {
    const before = [...joins(isUser), ...joins(forChildren), ...clocks]
    return { ...plan, clone: 0, monitorCalls: [], stage: stageOf(before, cloned, options.channel) }
  }
  if (fresh.has('user') && clocks.length > 0) {
    const rest = cloned.filter((type) => type !== 'user')
    const stage = stageOf(clocks, rest, options.channel)
    return { ...plan, clone: CLONE.NEWUSER, monitorCalls: joins(forChildren), stage }
  }
  // The user namespace first: it gives the right to join the others.
  const all = joinsUser ? [...joins(isUser), ...own] : own
  return { ...plan, clone: sum(cloned), monitorCalls: [...joins(forChildren), ...clocks], stage: undefined, joins: all }
}

function sum(types: readonly LinuxNamespaceType[]): number {
  return types.reduce((all, type) => all | namespaceFlags[type], 0)
}

function stageOf(before: readonly Call[], types: readonly LinuxNamespaceType[], channel: number): Stage {
  const why = { step: 'make the namespaces', pointer: '/linux/namespaces' }
  // clone3(2) takes no signal for a brother, and so is no choice.
  const late = types.includes('time') ? [unshare(CLONE.NEWTIME, why)] : []
  const rest = types.filter((type) => type !== 'time')
  const cloned = clone({ ...why, flags: sum(rest) + CLONE.PARENT, childSocket: channel })
  return { calls: [...before, ...late, cloned], clone: cloned }
}

function joinCalls(ns: LinuxNamespace, index: number): readonly Call[] {
  const why = { step: `join the ${ns.type} namespace`, pointer: `/linux/namespaces/${index}/path` }
  const opened = openat(AT_FDCWD, ns.path as string, O.RDONLY, 0, why)
  // The type is given, so that a path to a namespace of another type is refused.
  return [opened, setns(opened, namespaceFlags[ns.type], why), close(opened)]
}

/** Makes a time namespace for the children of a process, and sets its clocks. */
function timeNamespaceCalls(offsets: NonNullable<Linux['timeOffsets']>): readonly Call[] {
  const pointer = '/linux/timeOffsets'
  const lines = Object.entries(offsets).map(([clock, offset]) => {
    return `${clock} ${offset?.secs ?? 0} ${offset?.nanosecs ?? 0}\n`
  })
  if (lines.length === 0) return []
  const write = { path: 'self/timens_offsets', value: lines.join(''), pointer, step: 'set the clocks' }
  return [unshare(CLONE.NEWTIME, { step: 'make the time namespace', pointer }), ...procWrites([write])]
}

/** Brings the loopback interface of a new network namespace up. */
export function loopbackCalls(): readonly Call[] {
  const why = { step: 'bring up the loopback interface', pointer: '/linux/namespaces' }
  const AF_INET = 2
  const SOCK_DGRAM = 2
  const SIOCSIFFLAGS = 0x8914
  const IFF_UP = 1
  const request = Buffer.alloc(40) // struct ifreq
  request.write('lo')
  request.writeUInt16LE(IFF_UP, 16)
  const opened = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0, why)
  return [opened, ioctl(opened, SIOCSIFFLAGS, request, why), close(opened)]
}
