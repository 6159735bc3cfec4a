import type { Spec } from '../bundle/spec.ts'
import type { LinuxNamespace } from '../bundle/spec-linux.ts'
import type { Process, Scheduler } from '../bundle/spec-process.ts'
import { InvalidArgumentError } from '../errors.ts'
import { largestCpu, parseNumberList } from '../internal/number-list.ts'
import { type Call, out } from '../linux/call.ts'
import {
  AT_FDCWD,
  CLOSE_RANGE_CLOEXEC,
  chdir,
  chroot,
  close,
  closeRange,
  dup3,
  fchdir,
  O,
  O_DIRECTORY,
  openat,
} from '../linux/calls/files.ts'
import {
  CLONE,
  checkPeer,
  clone,
  PR,
  prctl,
  setns,
  setresgid,
  setresuid,
  setsid,
  siginfoSize,
  waitForExit,
} from '../linux/calls/processes.ts'
import { schedSetaffinity } from '../linux/calls/scheduling.ts'
import type { SeccompFilter } from '../linux/seccomp.ts'
import { type ExecCgroup, planExecCgroups, type SubCgroup, type SubCgroupPath } from './exec-cgroups.ts'
import type { Host } from './host.ts'
import { joinIntelRdt } from './intel-rdt.ts'
import { keyringCalls } from './keyring.ts'
import { labelWrites } from './labels.ts'
import { namespaceFlags } from './namespaces.ts'
import {
  candidates,
  dieWithParent,
  dropCalls,
  enterDirectory,
  execution,
  filterCalls,
  lookupCalls,
  type ProcessContext,
  rlimitCalls,
} from './process.ts'
import { type ProcWrite, procWrites } from './procfs.ts'
import { schedulingCalls } from './scheduling.ts'
import { listenerOf } from './seccomp-listener.ts'
import { maySetGroups } from './set-groups.ts'
import { controlCalls, terminalCalls } from './terminal-calls.ts'

/** Numbers of descriptors in the three processes of an exec. */
export const execDescriptor = {
  /** The container's first process (pidfd). */
  container: 4,
  /** The monitor: the new process (pidfd). */
  process: 5,
  /** The joiner's socket; those of children have numbers below 256. */
  joiner: 248,
  /** The new process's socket. */
  become: 249,
  /** The joiner: the socket that the terminal is sent through, and the terminal until then. */
  terminal: 247,
  terminalMaster: 246,
  /** The socket that leads to the seccomp listener. */
  listener: 245,
  /** The first of the two that lead to the class of service. */
  intelRdt: 108,
  /** The first of those that lead to the cgroup. */
  cgroup: 110,
  /** The first of those that are handed to the program. */
  preserved: 300,
} as const

const terminalDescriptors = { socket: execDescriptor.terminal, master: execDescriptor.terminalMaster }

/** What is planned. */
export interface ExecPlanOptions {
  readonly id: string
  /** The container's config. */
  readonly spec: Spec
  /** Its first process, as the host sees it. */
  readonly pid: number
  /** The whole process: nothing is taken from the config's own. */
  readonly process: Process
  /** Path of the program, where it is not the first argument. */
  readonly program?: string | undefined
  readonly cgroups: readonly ExecCgroup[]
  /** Path below those that are the container's. */
  readonly subCgroup?: SubCgroupPath | undefined
  /** Compiled `linux.seccomp`. */
  readonly filter?: SeccompFilter | undefined
  /** Absolute path of the bundle, for a seccomp listener. */
  readonly bundle: string
  /** Whether the process goes on without this one. */
  readonly outlive: boolean
  /** How many descriptors from 3 on the program gets. */
  readonly preserveFds: number
  readonly host: Host
}

/**
 * The system calls that run a further process in a container, as data. Three processes make them:
 * - the monitor, on the host, makes the joiner and stays as the parent of the new process;
 * - the joiner enters the container's namespaces, where its pid namespace does not show it, gives up
 *   all that the program may not have, makes the new process, and ends;
 * - the new process is never more than the program may be: who may trace it from inside gains nothing
 *   (CVE-2016-9962).
 */
export interface ExecPlan {
  readonly monitor: readonly Call[]
  readonly joiner: readonly Call[]
  /** The call of `joiner` whose result is the pid of the new process. */
  readonly clone: Call
  /** Directories of cgroups that calls of `monitor` or `joiner` make. */
  readonly subCgroups: readonly SubCgroup[]
  /** Places where the program may be, and the calls of `joiner` that look there. */
  readonly programs: readonly string[]
  readonly lookups: readonly Call[]
  /** The batch of the new process. It is answered only when no program could be executed. */
  become(pid: number): readonly Call[]
  /** Number of the socket that leads to the seccomp listener, where there is to be one; then {@link become} needs the pid. */
  readonly listener: number | undefined
  /** The last calls of `become`, for each of `programs`. */
  readonly executions: readonly Call[]
}

/** Plans an exec. Pure: it looks at nothing but its arguments. */
export function planExec(options: ExecPlanOptions): ExecPlan {
  const { spec, process, host } = options
  const programs = options.program === undefined ? candidates(process) : [options.program]
  const namespaces = spec.linux?.namespaces ?? []
  const user = namespaces.some((ns) => ns.type === 'user')
  const { id, bundle, preserveFds } = options
  const listener = options.filter?.notify
    ? listenerOf(spec, { id, bundle, status: 'running' }, 3 + preserveFds)
    : undefined
  const context: ProcessContext = {
    filter: options.filter,
    listener,
    grantable: user ? ~0n : host.capabilities,
    setgroups: maySetGroups(spec, host, user),
  }
  const cgroup = planExecCgroups({ ...options, firstDescriptor: execDescriptor.cgroup })
  const { intelRdt } = spec.linux ?? {}
  const service = joinIntelRdt({ id, intelRdt, host, firstDescriptor: execDescriptor.intelRdt })
  const why = { step: 'make the process' }
  const cloned = clone({ ...why, flags: CLONE.PARENT, childSocket: execDescriptor.become })
  const lookups = lookupCalls(programs)
  const executions = programs.map((program) => execution(process, program, 'any'))
  return {
    monitor: monitorCalls(cgroup.v2),
    joiner: [
      close(3),
      // A directory of the host: who finds it open could leave the container by it (CVE-2024-21626).
      ...(cgroup.v2 === undefined ? [] : [close(cgroup.v2.descriptor)]),
      ...beforeJoining(process, host),
      ...cgroup.open,
      ...service.open,
      ...joinCalls(options, namespaces),
      ...(process.terminal === true ? terminalCalls(process, terminalDescriptors) : []),
      ...enterDirectory(process.cwd),
      ...keyringCalls(options.id),
      ...schedulingCalls(inheritable(process)),
      ...joinerLimits(process, host),
      ...dropCalls(process, context),
      ...lookups,
      checkPeer(execDescriptor.joiner, why),
      cloned,
      close(execDescriptor.become),
    ],
    clone: cloned,
    subCgroups: cgroup.made,
    programs,
    lookups,
    become: (own) => [
      ...becomeCalls(options, [...cgroup.join, ...service.join]),
      ...(listener === undefined ? [] : [dup3(execDescriptor.listener, listener.socket, O.CLOEXEC, why)]),
      ...filterCalls(process, context, { container: options.pid, process: own }),
      ...executions,
    ],
    listener: listener === undefined ? undefined : execDescriptor.listener,
    executions,
  }
}

function monitorCalls(cgroup: { readonly open: readonly Call[]; readonly descriptor: number } | undefined) {
  const why = { step: 'make the process that joins the container' }
  const { joiner } = execDescriptor
  const cloned =
    cgroup === undefined
      ? clone({ ...why, flags: 0, childSocket: joiner })
      : clone({ ...why, flags: CLONE.INTO_CGROUP, childSocket: joiner, cgroup: cgroup.descriptor })
  return [
    ...(cgroup?.open ?? []),
    chdir('/', why),
    cloned,
    // The container's end, and that of its output, must be seen.
    closeRange(0, 2, 0, why),
    closeRange(4, 0xffffffff, 0, why),
    waitForExit(cloned, out(siginfoSize), 0, 0, why),
  ]
}

/** What is done by way of the host's files, or before the process is in its cgroup. */
function beforeJoining(process: Process, host: Host): readonly Call[] {
  const { execCPUAffinity, oomScoreAdj } = process
  const pointer = '/process/oomScoreAdj'
  const writes: readonly ProcWrite[] = [
    ...labelWrites(process, host),
    ...(oomScoreAdj === undefined ? [] : [{ path: 'self/oom_score_adj', value: String(oomScoreAdj), pointer }]),
  ]
  // Of a process that may not be looked at, such files are root's.
  const visible = (value: number): Call => prctl(PR.SET_DUMPABLE, value, 0, { step: 'open /proc' })
  return [
    ...(execCPUAffinity?.initial === undefined ? [] : [affinity('initial', execCPUAffinity.initial)]),
    ...(writes.length === 0 ? [] : [visible(1), ...procWrites(writes), visible(0)]),
  ]
}

/** The scheduling that a child has of its parent … */
function inheritable(process: Process): Process {
  const { scheduler, ...others } = process
  return isInherited(scheduler) ? process : others
}

/** … and that which it has to set itself. */
function notInheritable({ cwd, scheduler }: Process): Process {
  return scheduler === undefined || isInherited(scheduler) ? { cwd } : { cwd, scheduler }
}

function isInherited(scheduler: Scheduler | undefined): boolean {
  return scheduler?.policy !== 'SCHED_DEADLINE' && scheduler?.flags?.includes('SCHED_FLAG_RESET_ON_FORK') !== true
}

function affinity(which: 'initial' | 'final', list: string): Call {
  const pointer = `/process/execCPUAffinity/${which}`
  const cpus = parseNumberList(list, largestCpu)
  if (cpus === undefined || cpus.length === 0) {
    throw new InvalidArgumentError(`${pointer}: ${JSON.stringify(list)} is no list of processors`, {
      subject: pointer,
      hint: 'Write it as 0-3,7.',
    })
  }
  return schedSetaffinity(cpus, { step: `set the ${which} CPU affinity`, pointer })
}

function joinCalls(options: ExecPlanOptions, namespaces: readonly LinuxNamespace[]): readonly Call[] {
  const { container } = execDescriptor
  const why = { step: "join the container's namespaces", pointer: '/linux/namespaces' }
  const flags = namespaces.reduce((all, { type }) => all | namespaceFlags[type], 0)
  const joined = [
    ...(flags === 0 ? [] : [setns(container, flags, why)]),
    close(container, why),
    // The ids of this process may be none that the user namespace has; what it makes would belong to nobody.
    ...(namespaces.some(({ type }) => type === 'user') ? [setresgid(0, why), setresuid(0, why)] : []),
  ]
  if (namespaces.some(({ type }) => type === 'mount')) return joined
  // No mount namespace has the container's root for its own: the first process knows it.
  const root = openat(AT_FDCWD, `/proc/${options.pid}/root`, O.PATH | O_DIRECTORY, 0, why)
  return [root, ...joined, fchdir(root, why), chroot('.', why), close(root)]
}

/** Limits that are counted for all processes of a user, of whom the joiner must not be one: as /proc names them. */
const counted: ReadonlyMap<string, string> = new Map([
  ['RLIMIT_NPROC', 'Max processes'],
  ['RLIMIT_SIGPENDING', 'Max pending signals'],
  ['RLIMIT_MSGQUEUE', 'Max msgqueue size'],
])

/** The other limits; and of those only the room that the new process needs, for it may not raise any more. */
function joinerLimits(process: Process, host: Pick<Host, 'read'>): readonly Call[] {
  return rlimitCalls(process, (limit) => {
    const name = counted.get(limit.type)
    if (name === undefined) return limit
    const row = host
      .read('/proc/self/limits')
      ?.split('\n')
      .find((line) => line.startsWith(name))
    const hard = row?.slice(name.length).trim().split(/\s+/)[1]
    const enough = hard === undefined || hard === 'unlimited' || BigInt(hard) >= BigInt.asUintN(64, BigInt(limit.hard))
    return enough ? undefined : { ...limit, soft: limit.hard }
  })
}

function becomeCalls(options: ExecPlanOptions, joins: readonly Call[]): readonly Call[] {
  const { spec, process, outlive, preserveFds } = options
  const final = process.execCPUAffinity?.final
  const why = { step: 'hand over to the program' }
  const preserved = Array.from({ length: preserveFds }, (_, index) =>
    dup3(execDescriptor.preserved + index, 3 + index, 0, why),
  )
  return [
    setsid(),
    ...(process.terminal === true ? controlCalls() : []),
    ...joins,
    ...(final === undefined ? [] : [affinity('final', final)]),
    ...schedulingCalls(notInheritable(process), spec.linux),
    ...rlimitCalls(process, (limit) => (counted.has(limit.type) ? limit : undefined)),
    // Nobody may want it any more.
    ...(outlive ? [checkPeer(execDescriptor.become, why)] : dieWithParent(execDescriptor.become)),
    ...preserved,
    closeRange(3 + preserveFds, 0xffffffff, CLOSE_RANGE_CLOEXEC, why),
  ]
}
