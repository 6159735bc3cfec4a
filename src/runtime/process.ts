import type { Capabilities, Process, Rlimit } from '../bundle/spec-process.ts'
import { InvalidArgumentError } from '../errors.ts'
import type { Call, CallOptions } from '../linux/call.ts'
import {
  AT_EACCESS,
  AT_FDCWD,
  chdir,
  close,
  faccessat2,
  fchdir,
  O,
  O_DIRECTORY,
  openat2,
  RESOLVE,
  umask,
  X_OK,
} from '../linux/calls/files.ts'
import {
  capset,
  checkPeer,
  execve,
  PR,
  prctl,
  SIGKILL,
  seccompFilter,
  setgroups,
  setresgid,
  setresuid,
  setrlimit,
  stringTable,
} from '../linux/calls/processes.ts'
import { capabilityNames, capabilityNumber } from '../linux/capabilities.ts'
import { replyMarkOf } from '../linux/seccomp/mark.ts'
import type { SeccompFilter } from '../linux/seccomp.ts'
import { announceCalls, type SeccompListener } from './seccomp-listener.ts'

const CAP_SYS_ADMIN = 21
const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** Resources of setrlimit(2) by the name config.json has for them; alike on x64 and arm64. */
const resources: Readonly<Record<string, number>> = {
  RLIMIT_CPU: 0,
  RLIMIT_FSIZE: 1,
  RLIMIT_DATA: 2,
  RLIMIT_STACK: 3,
  RLIMIT_CORE: 4,
  RLIMIT_RSS: 5,
  RLIMIT_NPROC: 6,
  RLIMIT_NOFILE: 7,
  RLIMIT_MEMLOCK: 8,
  RLIMIT_AS: 9,
  RLIMIT_LOCKS: 10,
  RLIMIT_SIGPENDING: 11,
  RLIMIT_MSGQUEUE: 12,
  RLIMIT_NICE: 13,
  RLIMIT_RTPRIO: 14,
  RLIMIT_RTTIME: 15,
}

/** What becoming the container's program needs besides the config. */
export interface ProcessContext {
  /** Compiled seccomp filter. */
  readonly filter?: Pick<SeccompFilter, 'program' | 'flags' | 'mark'> | undefined
  /** Who hears of the calls that the filter passes on. */
  readonly listener?: SeccompListener | undefined
  /** Capabilities that can be granted, as a bit mask. */
  readonly grantable: bigint
  /** Whether setgroups is possible: not in a user namespace with a single id. */
  readonly setgroups: boolean
  /** Capabilities that are left in the bounding set. Default: it is as it was. */
  readonly bounding?: bigint | undefined
}

/** What the first process needs besides. */
export interface StartContext extends ProcessContext {
  /** Socket of a process that is to die with its parent. */
  readonly socket: number | undefined
}

/** Paths at which the program may be, in the order of PATH (execvp(3)). */
export function candidates(process: Process): readonly string[] {
  const name = process.args?.[0]
  if (name === undefined || name === '') {
    throw new InvalidArgumentError('the container has no command to run', {
      subject: '/process/args',
      hint: 'Give one with `command`; the image names none.',
    })
  }
  if (name.includes('/')) return [name]
  const path = process.env?.findLast((entry) => entry.startsWith('PATH='))?.slice(5) ?? defaultPath
  // An empty entry would be the working directory: nobody means that in a container.
  return path
    .split(':')
    .filter((directory) => directory !== '')
    .map((directory) => `${directory}/${name}`)
}

/** Looks at every candidate; those that can't be executed have a negative result. */
export function lookupCalls(paths: readonly string[]): readonly Call[] {
  const why: CallOptions = { step: 'find the program', pointer: '/process/args/0', tolerate: 'any' }
  return paths.map((path) => faccessat2(AT_FDCWD, path, X_OK, AT_EACCESS, why))
}

/**
 * Plans the last batch of a container's first process: drop what it may not have, and become the program,
 * which is known by its path later.
 */
export function startCalls(process: Process, context: StartContext): (program: string, pid: number) => readonly Call[] {
  const calls: Call[] = [
    ...rlimitCalls(process),
    ...dropCalls(process, context),
    // Changing ids clears the parent-death signal (kernel/cred.c, commit_creds), so it comes after them.
    ...(context.socket === undefined ? [] : dieWithParent(context.socket)),
  ]
  return (program, pid) => [
    ...calls,
    ...filterCalls(process, context, { container: pid, process: pid }),
    execution(process, program),
  ]
}

/** The parent may be gone already; whoever made both holds the socket. */
export function dieWithParent(socket: number): readonly Call[] {
  const step = { step: 'die with the parent' }
  return [prctl(PR.SET_PDEATHSIG, SIGKILL, 0, step), checkPeer(socket, step)]
}

/** Takes on the user and the capabilities of the program; what it may not have is gone for good. */
export function dropCalls(process: Process, context: ProcessContext): readonly Call[] {
  const user = process.user ?? {}
  const sets = capabilityMasks(process.capabilities, context.grantable)
  const calls: Call[] = [
    umask(user.umask ?? 0o022),
    ...(sets === undefined ? [] : boundingCalls(sets.bounding, context.bounding)),
    prctl(PR.SET_KEEPCAPS, 1, 0, { step: 'keep capabilities' }),
    ...userCalls(process, user.uid ?? 0, context),
  ]
  if (sets !== undefined) {
    // Loading a filter takes CAP_SYS_ADMIN unless no_new_privs is set: keep it until that is done.
    const extra = loadsAsAdministrator(process, context) ? bit(CAP_SYS_ADMIN) & context.grantable : 0n
    calls.push(setCapabilities(sets, extra))
    for (const number of bits(sets.ambient)) calls.push(ambient(number))
  }
  if (process.noNewPrivileges === true) {
    calls.push(prctl(PR.SET_NO_NEW_PRIVS, 1, 0, { step: 'set no_new_privs' }))
  }
  return calls
}

/**
 * Loads the seccomp filter, after {@link dropCalls}.
 * @param pids of the container's first process and of this one, for a listener
 */
export function filterCalls(
  process: Process,
  context: ProcessContext,
  pids: { readonly container: number; readonly process: number },
): readonly Call[] {
  const { filter, listener } = context
  if (filter === undefined) return []
  const load = loadFilter(filter)
  const loaded = listener === undefined ? [load] : [load, ...announceCalls(load, listener, pids, filter.mark)]
  const sets = capabilityMasks(process.capabilities, context.grantable)
  if (sets === undefined || !loadsAsAdministrator(process, context)) return loaded
  return [...loaded, setCapabilities(sets, 0n)]
}

/** Whether a process that has what can be granted may load a filter without no_new_privs. */
export function isAdministrator({ grantable }: ProcessContext): boolean {
  return (grantable & bit(CAP_SYS_ADMIN)) !== 0n
}

function loadsAsAdministrator(process: Process, { filter }: ProcessContext): boolean {
  return process.noNewPrivileges !== true && filter !== undefined
}

/**
 * Enters a directory below the root, which leads nowhere else: not by way of a descriptor in /proc either
 * (CVE-2024-21626).
 */
export function enterDirectory(path: string): readonly Call[] {
  const why = { step: 'enter the working directory', pointer: '/process/cwd' }
  const resolve = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS
  // Where the path starts from. Joining a mount namespace has made it the root of that.
  const root = chdir('/', why)
  const directory = openat2(AT_FDCWD, path, { flags: O.PATH | O_DIRECTORY, resolve }, why)
  return [root, directory, fchdir(directory, why), close(directory, why)]
}

/** Becomes the program. */
export function execution(process: Pick<Process, 'args' | 'env'>, program: string, tolerate?: 'any'): Call {
  const why = { ...(tolerate === undefined ? {} : { tolerate }), step: `execute ${program}`, pointer: '/process/args' }
  return execve(program, stringTable(process.args ?? []), stringTable(process.env ?? []), why)
}

/** Sets the resource limits: all of them as they are, or what `choose` makes of each. */
export function rlimitCalls(
  process: Process,
  choose: (limit: Rlimit) => Rlimit | undefined = (limit) => limit,
): readonly Call[] {
  return (process.rlimits ?? []).flatMap((limit, index) => {
    const resource = resources[limit.type]
    const pointer = `/process/rlimits/${index}`
    if (resource === undefined) throw new InvalidArgumentError(`${pointer}: no resource is named ${limit.type}`)
    const chosen = choose(limit)
    if (chosen === undefined) return []
    return [setrlimit(resource, BigInt(chosen.soft), BigInt(chosen.hard), { step: `set ${limit.type}`, pointer })]
  })
}

function userCalls(process: Process, uid: number, context: ProcessContext): readonly Call[] {
  const user = process.user ?? {}
  const calls: Call[] = []
  // Always set, also to none: the groups of whoever calls must not leak in (CVE-2023-25173).
  if (context.setgroups) {
    const pointer = '/process/user/additionalGids'
    calls.push(setgroups(user.additionalGids ?? [], { step: 'set the additional groups', pointer }))
  }
  calls.push(setresgid(user.gid ?? 0, { step: `become group ${user.gid ?? 0}`, pointer: '/process/user/gid' }))
  calls.push(setresuid(uid, { step: `become user ${uid}`, pointer: '/process/user/uid' }))
  return calls
}

interface CapabilityMasks {
  readonly bounding: bigint
  readonly effective: bigint
  readonly permitted: bigint
  readonly inheritable: bigint
  readonly ambient: bigint
}

/** The sets of config.json as masks, without what is unknown or can't be granted (the spec wants no failure). */
function capabilityMasks(capabilities: Capabilities | undefined, grantable: bigint): CapabilityMasks | undefined {
  if (capabilities === undefined) return undefined
  const mask = (names: readonly string[] = []): bigint =>
    names.reduce((all, name) => all | bit(capabilityNumber(name) ?? -1), 0n) & grantable
  return {
    bounding: mask(capabilities.bounding),
    effective: mask(capabilities.effective) & mask(capabilities.permitted),
    permitted: mask(capabilities.permitted),
    inheritable: mask(capabilities.inheritable),
    ambient: mask(capabilities.ambient),
  }
}

/** Names of the capabilities that were asked for and can't be granted. */
export function ungrantable(capabilities: Capabilities | undefined, grantable: bigint): readonly string[] {
  const all = new Set(Object.values(capabilities ?? {}).flat() as string[])
  return [...all].filter((name) => (bit(capabilityNumber(name) ?? -1) & grantable) === 0n)
}

/** The bounding set of a process; undefined when it stays as it is. */
export function boundingSet(
  { capabilities }: Pick<Process, 'capabilities'>,
  { grantable }: ProcessContext,
): bigint | undefined {
  return capabilityMasks(capabilities, grantable)?.bounding
}

/** Whether all that is to be in the bounding set of a process is left in it. */
export function isBounded(process: Process, context: ProcessContext): boolean {
  const { bounding } = context
  return bounding === undefined || ((boundingSet(process, context) ?? ~0n) & ~bounding) === 0n
}

/** Lowers the bounding set. @param present what is left in it. Default all */
export function boundingCalls(keep: bigint, present: bigint = ~0n): readonly Call[] {
  return capabilityNames.flatMap((name, number) => {
    if ((present & ~keep & bit(number)) === 0n) return []
    // EINVAL: the kernel is older than the capability.
    return [prctl(PR.CAPBSET_DROP, number, 0, { step: `drop ${name}`, tolerate: 'EINVAL' })]
  })
}

function setCapabilities(sets: CapabilityMasks, extra: bigint): Call {
  const { effective, permitted, inheritable } = sets
  const why = { step: 'set the capabilities', pointer: '/process/capabilities' }
  return capset({ effective: effective | extra, permitted: permitted | extra, inheritable }, why)
}

function ambient(number: number): Call {
  const why = { step: `raise ${capabilityNames[number]}`, pointer: '/process/capabilities/ambient' }
  return prctl(PR.CAP_AMBIENT, PR.CAP_AMBIENT_RAISE, number, why)
}

/** Loads a seccomp filter; without no_new_privs that takes CAP_SYS_ADMIN. */
export function loadFilter({ program, flags, mark }: Pick<SeccompFilter, 'program' | 'flags' | 'mark'>): Call {
  const replyMark = mark === undefined ? undefined : replyMarkOf(mark)
  return seccompFilter(program, flags, { step: 'load the seccomp filter', pointer: '/linux/seccomp', replyMark })
}

function bit(number: number): bigint {
  return number < 0 ? 0n : 1n << BigInt(number)
}

function bits(mask: bigint): readonly number[] {
  return capabilityNames.map((_, number) => number).filter((number) => (mask & bit(number)) !== 0n)
}
