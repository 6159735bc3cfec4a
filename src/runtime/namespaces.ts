import type { LinuxNamespace, LinuxNamespaceType } from '../bundle/spec-linux.ts'
import type { Call } from '../linux/call.ts'
import { AT_FDCWD, close, ioctl, O, openat } from '../linux/calls/files.ts'
import { CLONE, SOCK_CLOEXEC, setns, socket } from '../linux/calls/processes.ts'

const flags: Readonly<Record<LinuxNamespaceType, number>> = {
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
  /** Flags of the clone that makes the first process. */
  readonly clone: number
  /** Joined by the monitor: they take effect for its children only. */
  readonly monitorJoins: readonly Call[]
  /** Joined by the first process itself. */
  readonly joins: readonly Call[]
  /** Whether a type is new, and not joined or shared with the host. */
  isNew(type: LinuxNamespaceType): boolean
  /** Whether a type is new or joined, and not shared with the host. */
  has(type: LinuxNamespaceType): boolean
}

/** Sorts namespaces into those that are made and those that are joined by path. */
export function planNamespaces(namespaces: readonly LinuxNamespace[]): NamespacePlan {
  const fresh = new Set(namespaces.filter((ns) => !ns.path).map((ns) => ns.type))
  // The cgroup namespace is made when the process is in its cgroup, which then is the root of it.
  const clone = [...fresh].filter((type) => type !== 'cgroup').reduce((all, type) => all | flags[type], 0)
  const join = (ns: LinuxNamespace): readonly Call[] => {
    const index = namespaces.indexOf(ns)
    const why = { step: `join the ${ns.type} namespace`, pointer: `/linux/namespaces/${index}/path` }
    const opened = openat(AT_FDCWD, ns.path as string, O.RDONLY, 0, why)
    // The type is given, so that a path to a namespace of another type is refused.
    return [opened, setns(opened, flags[ns.type], why), close(opened)]
  }
  const joined = namespaces.filter((ns) => ns.path)
  const forChildren = (ns: LinuxNamespace): boolean => ns.type === 'pid' || ns.type === 'time'
  // The user namespace first: it gives the right to join the others.
  const own = joined
    .filter((ns) => !forChildren(ns))
    .sort((a, b) => Number(b.type === 'user') - Number(a.type === 'user'))
  return {
    clone,
    monitorJoins: joined.filter(forChildren).flatMap(join),
    joins: own.flatMap(join),
    isNew: (type) => fresh.has(type),
    has: (type) => namespaces.some((ns) => ns.type === type),
  }
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
