import type { Spec } from '../bundle/spec.ts'
import { InvalidArgumentError } from '../errors.ts'
import { onAbort } from '../internal/abort.ts'
import { stringifyJsonInt64 } from '../internal/json-int64.ts'
import { hostArchitecture } from '../linux/architecture.ts'
import type { RuntimeContainer } from './container.ts'
import { Creation, type InternalCreateOptions } from './creation.ts'
import { outlives } from './exec.ts'
import { forgetForesight } from './foresight.ts'
import type { HookFunctions } from './hooks.ts'
import { thisHost } from './host.ts'
import type { Learning } from './learn/learning.ts'
import { LearningSession } from './learn/session.ts'
import type { OverlayRootfs } from './overlay.ts'
import { ParkedContainer } from './parked.ts'
import type { Plan } from './plan.ts'
import { planAgain } from './plan-memo.ts'
import { seccompProgram } from './seccomp.ts'
import { defaultStateRoot } from './state-directory.ts'
import { stepFailed } from './step-error.ts'
import { claim, sweep } from './sweep.ts'
import { HandlerSupervision, type Supervision } from './syscalls/supervision.ts'
import type { SyscallHandlers } from './syscalls/types.ts'
import { type Scope, scopeOf } from './systemd/scope.ts'
import { unusable } from './unusable.ts'

/** Options of {@link createContainer}. */
export interface CreateOptions {
  /** Unique among the containers of `stateRoot`: letters, digits and `_ + . -`. */
  readonly id: string
  /** A valid config.json (runtime-spec 1.x); see `validateSpec` of oci-ts/bundle. */
  readonly spec: Spec
  /** Absolute path of the bundle. */
  readonly bundle: string
  /** Layers to mount as the root filesystem, inside the container's mount namespace. Default: `root.path` as it is. */
  readonly overlay?: OverlayRootfs | undefined
  /**
   * A descriptor of this process, which stays open: a mount that is attached nowhere (of open_tree(2) or fsmount(2)) and
   * becomes the root filesystem in place of `root.path` and `overlay`. It may be one that the container could not make, with
   * the rights of its user namespace. Takes a mount namespace.
   */
  readonly rootTree?: number | undefined
  /** Descriptors of this process that become 0, 1 and 2 of the container; they stay open here. Default /dev/null. */
  readonly stdio?: readonly [stdin: number | undefined, stdout: number | undefined, stderr: number | undefined]
  /** Whether the container goes on when this process ends. Default false: it is killed with it. */
  readonly detach?: boolean | undefined
  /**
   * Whether every cgroup controller counts what the container uses, so that `stats` tells it exactly also of what
   * has no limit. Default false: on cgroup version 1 each controller costs some time at the start.
   */
  readonly accounting?: boolean | undefined
  /**
   * Whether it gets a cgroup of its own. Default true. Without one it stays in that of this process, and
   * `linux.resources` has no effect.
   */
  readonly cgroup?: boolean | undefined
  /**
   * Who makes the cgroup. `systemd` asks the systemd of this host, or of an ordinary user, for a scope;
   * `linux.cgroupsPath` then is `slice:prefix:name`, and annotations `org.systemd.property.…` set its properties.
   * Default `cgroupfs`: this library, in the file system.
   */
  readonly cgroupManager?: 'cgroupfs' | 'systemd' | undefined
  /**
   * For programs that are run as a container runtime: the container goes on, and is left to whoever runs this
   * process. When it is released no monitor stays; its first process becomes a child of the nearest subreaper
   * (prctl(2), PR_SET_CHILD_SUBREAPER), which waits for it. Any process starts it by its id ({@link start}); `exited`
   * and {@link wait} know nothing of its end any more. Includes `detach`. Default false.
   */
  readonly handOver?: boolean | undefined
  /** How many descriptors of this process, from 3 on, the program gets by the same numbers; at most 240. Default 0. */
  readonly preserveFds?: number | undefined
  /** Where containers are recorded. Default `/run/oci-ts`, or below `$XDG_RUNTIME_DIR` without root of the host. */
  readonly stateRoot?: string | undefined
  /** Whether it gets a session keyring of its own, so that keys of the host are out of its reach. Default true. */
  readonly newKeyring?: boolean | undefined
  /** Whether to do without pivot_root(2), which a root on a ramdisk refuses; the old root stays below. Default false. */
  readonly noPivot?: boolean | undefined
  /**
   * For `process.terminal`: path of a socket at which somebody else waits for the terminal, as runc's
   * `--console-socket`. Default: `terminal` of the container is it.
   */
  readonly consoleSocket?: string | undefined
  /**
   * Functions of this process as hooks, beside the programs that the config has. Those of moments that come when this
   * process is gone, or has let go of the container, are not run.
   */
  readonly hooks?: HookFunctions | undefined
  /**
   * Functions of this process that answer system calls of the container and of what enters it, by the names of these:
   * `{ mkdirat: async (call) => 'continue' }`. The config's filter gets a rule for each, before its own. A handler that
   * fails, or takes longer than `syscallTimeout`, fails the call with EPERM; a warning (`process.on('warning')`, code
   * `OCI_SYSCALL`) tells why. Not together with `detach`, `handOver`, `learn` or SCMP_ACT_NOTIFY.
   */
  readonly onSyscall?: SyscallHandlers | undefined
  /** How long a handler of `onSyscall` may take, in milliseconds. Default 10,000. */
  readonly syscallTimeout?: number | undefined
  /**
   * Records which system calls and capabilities the container uses, and what enters it. Every call of its processes then
   * takes some time longer. Not together with `detach`, `handOver`, `onSyscall` or SCMP_ACT_NOTIFY.
   */
  readonly learn?: Learning | undefined
  /**
   * Path of a socket at which somebody waits for a descriptor that stands for the process (a pidfd, which no other process
   * can come to be), as runc's `--pidfd-socket`.
   */
  readonly pidfdSocket?: string | undefined
  /** File to write the pid of the first process to. */
  readonly pidFile?: string | undefined
  /** Aborting rejects with `signal.reason` and leaves nothing behind. */
  readonly signal?: AbortSignal | undefined
}

/**
 * Makes a container: everything but its program runs (runtime-spec, runtime.md, "Create").
 * @throws RuntimeError naming the step that failed; nothing is left behind.
 * @throws ConflictError when the id is in use, or the cgroup. @throws UnsupportedError for what this host
 * can't do. @throws InvalidArgumentError for what can't be used of the options and the config.
 */
export async function createContainer(options: CreateOptions): Promise<RuntimeContainer> {
  return (await make(options, { parked: false })).container
}

/**
 * As {@link createContainer}: what its first process runs is told only when it is to run.
 * @param early whether what can be is done before; then not every run is possible
 */
export async function createParked(options: CreateOptions, early: boolean): Promise<ParkedContainer> {
  const { container, plan, streams } = await make(options, { parked: true, early })
  return new ParkedContainer(container, plan, streams as number)
}

interface Made {
  readonly container: RuntimeContainer
  readonly plan: Plan
  /** Of a parked container: the socket by which its standard streams are handed over. */
  readonly streams: number | undefined
}

async function make(given: CreateOptions, how: Pick<InternalCreateOptions, 'parked' | 'early'>): Promise<Made> {
  const { signal } = given
  signal?.throwIfAborted()
  const supervision = supervisionOf(given)
  const options = supervision === undefined ? given : { ...given, spec: supervision.specOf(given.spec) }
  const root = options.stateRoot ?? defaultStateRoot()
  const config = textOf(options.spec)
  await sweep(root)
  const all: InternalCreateOptions = { ...options, ...how, config, supervision }
  try {
    return (await attempt(all, root)) ?? ((await attempt(all, root)) as Made)
  } catch (cause) {
    signal?.throwIfAborted()
    throw cause
  }
}

/** @returns undefined when what was foreseen was otherwise: nothing is foreseen any more. */
async function attempt(options: InternalCreateOptions, root: string): Promise<Made | undefined> {
  const { id, signal } = options
  const directory = await claim(root, id)
  let plan: Plan
  try {
    const bySystemd = options.cgroupManager === 'systemd' && options.cgroup !== false
    plan = planOf(options, bySystemd ? await scopeOf(id, options.spec) : undefined)
  } catch (cause) {
    directory.remove()
    throw unusable(cause, 'config')
  }
  const creation = new Creation(options, plan, directory)
  const unlink = onAbort(signal, () => creation.interrupt())
  try {
    const container = await creation.run()
    return { container, plan, streams: creation.streams }
  } catch (cause) {
    await creation.undo()
    if (!creation.wasForeseen || signal?.aborted === true) throw unusable(stepFailed(id, cause), 'config')
    forgetForesight(plan)
    return undefined
  } finally {
    unlink()
  }
}

function textOf(spec: Spec): string {
  try {
    return stringifyJsonInt64(spec)
  } catch (error) {
    throw unusable(error, 'config')
  }
}

function supervisionOf(options: CreateOptions): Supervision | undefined {
  const { id, spec, onSyscall = {}, syscallTimeout, learn, detach, handOver } = options
  const handles = Object.keys(onSyscall).length > 0
  if (!handles && learn === undefined) return undefined
  const subject = handles ? 'onSyscall' : 'learn'
  if (handles && learn !== undefined)
    throw new InvalidArgumentError('onSyscall and learn exclude each other', { subject })
  if (detach === true || handOver === true) {
    throw new InvalidArgumentError(`${subject} is for containers that end with this process`, { subject })
  }
  return learn === undefined
    ? new HandlerSupervision(id, onSyscall, syscallTimeout)
    : new LearningSession(id, learn, spec)
}

function planOf(options: InternalCreateOptions, scope: Scope | undefined): Plan {
  const { id, spec, bundle, overlay, preserveFds, newKeyring, noPivot, accounting, cgroup, config, parked } = options
  const handOver = options.handOver === true
  const outlive = outlives(options)
  const supervised = options.supervision !== undefined
  const others = {
    bundle,
    overlay,
    rootTree: options.rootTree !== undefined,
    outlive,
    handOver,
    parked,
    early: options.early,
    preserveFds,
    newKeyring,
    noPivot,
    accounting,
    cgroup,
  }
  const filter = () => seccompProgram(spec.linux?.seccomp, hostArchitecture(), { supervised })
  const texts = { config, others: JSON.stringify({ ...others, supervised, isScoped: scope !== undefined }) }
  return planAgain({ id, spec, scope, host: thisHost(), ...others }, filter, texts)
}
