import { type Arg, type Call, type CallOptions, call, type Out, struct, type Word } from '../call.ts'
import type { Fd } from './files.ts'

/** Flags of clone, unshare and setns. */
export const CLONE = {
  NEWTIME: 0x80,
  VM: 0x100,
  PIDFD: 0x1000,
  PARENT: 0x8000,
  NEWNS: 0x20000,
  NEWCGROUP: 0x2000000,
  NEWUTS: 0x4000000,
  NEWIPC: 0x8000000,
  NEWUSER: 0x10000000,
  NEWPID: 0x20000000,
  NEWNET: 0x40000000,
  INTO_CGROUP: 0x200000000,
} as const

export const SIGCHLD = 17
export const SIGKILL = 9

/** What the child of {@link clone} is to be. */
export interface CloneOptions extends CallOptions {
  /** Bits of {@link CLONE}. */
  readonly flags: number
  /** Descriptor of the socket on which the child takes its batches. */
  readonly childSocket: number
  /** Where the kernel puts the pid descriptor, with CLONE.PIDFD. */
  readonly pidfd?: Out
  /** Descriptor of the cgroup v2 directory the child is born in, with CLONE.INTO_CGROUP (Linux 5.7). */
  readonly cgroup?: number
}

/**
 * A child that goes on in a socket of its own; only a remote process can make one. It is clone(2),
 * which sandboxes allow more often, unless a flag needs clone3(2), Linux 5.3.
 */
export function clone(options: CloneOptions): Call {
  const { flags, childSocket, pidfd, cgroup, ...rest } = options
  if (cgroup === undefined && (flags & CLONE.NEWTIME) === 0) {
    return { ...call('clone', [flags + SIGCHLD, 0, pidfd ?? 0, 0, 0], rest), childSocket }
  }
  // With CLONE_PARENT the signal is the one that this process's own parent gets.
  const endSignal = (flags & CLONE.PARENT) === 0 ? SIGCHLD : 0
  const words: readonly Word[] = [flags, pidfd ?? 0, 0, 0, endSignal, 0, 0, 0, 0, 0, cgroup ?? 0]
  return { ...call('clone3', [struct(words), words.length * 8], rest), childSocket }
}

export function unshare(flags: number, options?: CallOptions): Call {
  return call('unshare', [flags], options)
}

export function setns(fd: Fd, type: number, options?: CallOptions): Call {
  return call('setns', [fd, type], options)
}

/** A NULL-terminated table of strings, as execve takes. */
export function stringTable(strings: readonly string[]): Arg {
  return struct([...strings, 0])
}

/** execve(2). On success there is no result: the process is another program. */
export function execve(path: string, argv: Arg, env: Arg, options?: CallOptions): Call {
  return call('execve', [path, argv, env], { path, ...options })
}

export function execveat(fd: Fd, path: string, argv: Arg, env: Arg, flags: number, options?: CallOptions): Call {
  return call('execveat', [fd, path, argv, env, flags], { path, ...options })
}

/** Lets others that wait for the same processor come first. */
export function schedYield(options?: CallOptions): Call {
  return call('sched_yield', [], options)
}

/** Operations of prctl(2). */
export const PR = {
  SET_PDEATHSIG: 1,
  SET_DUMPABLE: 4,
  SET_KEEPCAPS: 8,
  SET_NAME: 15,
  CAPBSET_DROP: 24,
  SET_CHILD_SUBREAPER: 36,
  SET_NO_NEW_PRIVS: 38,
  CAP_AMBIENT: 47,
  CAP_AMBIENT_RAISE: 2,
  CAP_AMBIENT_CLEAR_ALL: 4,
} as const

export function prctl(operation: number, a: Arg = 0, b: Arg = 0, options?: CallOptions): Call {
  return call('prctl', [operation, a, b, 0, 0], options)
}

export function kill(pid: number | Call, signal: number, options?: CallOptions): Call {
  return call('kill', [pid, signal], options)
}

/** pidfd_open(2): a descriptor that stands for the process and no later one of the same number. */
export function pidfdOpen(pid: number | Call, options?: CallOptions): Call {
  return call('pidfd_open', [pid, 0], options)
}

/** pidfd_getfd(2), Linux 5.6: a copy of a descriptor of another process. */
export function pidfdGetfd(pidfd: Fd, fd: number, options?: CallOptions): Call {
  return call('pidfd_getfd', [pidfd, fd, 0], options)
}

export function pidfdSendSignal(pidfd: Fd, signal: number, options?: CallOptions): Call {
  return call('pidfd_send_signal', [pidfd, signal, 0, 0], options)
}

const P_ALL = 0
const P_PID = 1
const P_PIDFD = 3
const WEXITED = 4
/** Leaves what has ended to be waited for again. */
export const WNOWAIT = 0x1000000
/** Bytes of siginfo_t. */
export const siginfoSize = 128
/** Bytes of struct rusage. */
export const rusageSize = 144

/** waitid(2) for the end of the child `pid`. Blocks. */
export function waitForExit(
  pid: number | Call,
  siginfo: Out,
  rusage: Out | 0 = 0,
  flags = 0,
  options?: CallOptions,
): Call {
  return call('waitid', [P_PID, pid, siginfo, WEXITED | flags, rusage], options)
}

/** waitid(2) for the end of the child that `pidfd` stands for. Blocks. */
export function waitForExitOf(pidfd: Fd, siginfo: Out, rusage: Out, flags: number, options?: CallOptions): Call {
  return call('waitid', [P_PIDFD, pidfd, siginfo, WEXITED | flags, rusage], options)
}

/** waitid(2) for the end of any child. Blocks. */
export function waitForAnyExit(siginfo: Out, flags = 0, options?: CallOptions): Call {
  return call('waitid', [P_ALL, 0, siginfo, WEXITED | flags, 0], options)
}

export function wait4(pid: number, status: Out, flags: number, options?: CallOptions): Call {
  return call('wait4', [pid, status, flags, 0], options)
}
export const WNOHANG = 1

/** Something has come to an end on the other side of a stream socket. */
export const POLLRDHUP = 0x2000
/** There is something to read; of a pid descriptor: the process has ended. */
export const POLLIN = 1

/** ppoll(2) without a timeout: blocks until an event of one of `entries` happens, or it breaks or is closed. */
export function waitForEvent(
  entries: readonly { readonly fd: number; readonly events: number }[],
  options?: CallOptions,
): Call {
  const table = Buffer.alloc(entries.length * 8)
  entries.forEach(({ fd, events }, index) => {
    table.writeInt32LE(fd, index * 8)
    table.writeInt16LE(events, index * 8 + 4)
  })
  return call('ppoll', [table, entries.length, 0, 0, 0], options)
}

/** ppoll(2) that does not wait: gives 1 when one of `events` is there, or the other side is gone; else 0. */
export function pollNow(fd: number, events: number, options?: CallOptions): Call {
  const table = Buffer.alloc(8)
  table.writeInt32LE(fd, 0)
  table.writeInt16LE(events, 4)
  return call('ppoll', [table, 1, struct([0, 0]), 0, 0], options)
}

export function setsid(options?: CallOptions): Call {
  return call('setsid', [], options)
}

export function setgroups(groups: readonly number[], options?: CallOptions): Call {
  const list = Buffer.alloc(groups.length * 4)
  groups.forEach((group, index) => {
    list.writeUInt32LE(group, index * 4)
  })
  return call('setgroups', [groups.length, list], options)
}

/** Real, effective and saved id at once. */
export function setresgid(gid: number, options?: CallOptions): Call {
  return call('setresgid', [gid, gid, gid], options)
}

/** Real, effective and saved id at once. */
export function setresuid(uid: number, options?: CallOptions): Call {
  return call('setresuid', [uid, uid, uid], options)
}

/** Capability sets of a thread as bit masks. */
export interface CapabilitySets {
  readonly effective: bigint
  readonly permitted: bigint
  readonly inheritable: bigint
}

/** capset(2) of the calling thread, in the format of version 3. */
export function capset(sets: CapabilitySets, options?: CallOptions): Call {
  const header = Buffer.alloc(8)
  header.writeUInt32LE(0x20080522, 0)
  const data = Buffer.alloc(24)
  ;[0n, 32n].forEach((shift, half) => {
    const word = (mask: bigint): number => Number((mask >> shift) & 0xffffffffn)
    data.writeUInt32LE(word(sets.effective), half * 12)
    data.writeUInt32LE(word(sets.permitted), half * 12 + 4)
    data.writeUInt32LE(word(sets.inheritable), half * 12 + 8)
  })
  return call('capset', [header, data], options)
}

/** prlimit64(2) of the calling process. Values as the kernel's resource has them; -1n is no limit. */
export function setrlimit(resource: number, soft: bigint, hard: bigint, options?: CallOptions): Call {
  const limit = Buffer.alloc(16)
  limit.writeBigUInt64LE(BigInt.asUintN(64, soft), 0)
  limit.writeBigUInt64LE(BigInt.asUintN(64, hard), 8)
  return call('prlimit64', [0, resource, limit, 0], options)
}

export function sethostname(name: string, options?: CallOptions): Call {
  return call('sethostname', [name, Buffer.byteLength(name)], options)
}

export function setdomainname(name: string, options?: CallOptions): Call {
  return call('setdomainname', [name, Buffer.byteLength(name)], options)
}

const SECCOMP_SET_MODE_FILTER = 1

/** seccomp(2): puts `filter` (an array of struct sock_filter) over the calling thread. */
export function seccompFilter(
  filter: Uint8Array,
  flags: number,
  { replyMark, ...options }: CallOptions & { readonly replyMark?: bigint | undefined } = {},
): Call {
  const loaded = call('seccomp', [SECCOMP_SET_MODE_FILTER, flags, struct([filter.length / 8, filter])], options)
  return replyMark === undefined ? loaded : { ...loaded, replyMark }
}

export function socketpair(type: number, to: Out, options?: CallOptions): Call {
  return call('socketpair', [AF_UNIX, type, 0, to], options)
}
export const AF_UNIX = 1
export const SOCK_STREAM = 1
export const SOCK_CLOEXEC = 0o2000000

export function socket(family: number, type: number, protocol: number, options?: CallOptions): Call {
  return call('socket', [family, type, protocol], options)
}

/**
 * Fails with EPIPE when nobody holds the other end of the stream socket `fd` any more; sends
 * nothing (net/unix/af_unix.c looks at the shutdown state before the length).
 */
export function checkPeer(fd: number, options?: CallOptions): Call {
  const MSG_NOSIGNAL = 0x4000
  return call('sendto', [fd, '', 0, MSG_NOSIGNAL, 0, 0], options)
}

/** exit_group(2): there is no answer. */
export function exitGroup(status: number, options?: CallOptions): Call {
  return call('exit_group', [status], options)
}

export function getppid(options?: CallOptions): Call {
  return call('getppid', [], options)
}
