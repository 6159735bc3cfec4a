import { closeSync } from 'node:fs'
import { join } from 'node:path'
import type { Spec } from '../bundle/spec.ts'
import type { Process } from '../bundle/spec-process.ts'
import { ConflictError, InvalidArgumentError, SyscallError } from '../errors.ts'
import { hostArchitecture } from '../linux/architecture.ts'
import { isFrozen } from './cgroups/freezer.ts'
import { hostHierarchies } from './cgroups/hierarchies.ts'
import { cgroupsToJoin } from './cgroups/joinable.ts'
import { locateCgroup, textOf } from './cgroups/location.ts'
import type { ExecCgroup, SubCgroupPath } from './exec-cgroups.ts'
import { type ExecPlan, planExec } from './exec-plan.ts'
import { Execution } from './execution.ts'
import { thisHost } from './host.ts'
import { openFirstProcess } from './kill.ts'
import type { LookupOptions } from './lookup.ts'
import type { RuntimeProcess } from './runtime-process.ts'
import { seccompProgram } from './seccomp.ts'
import { type ContainerRecord, defaultStateRoot, readConfig, readRecord } from './state-directory.ts'
import type { Supervision } from './syscalls/supervision.ts'
import { unusable } from './unusable.ts'

/** A process to run: what is not given is as the container's own process has it; never its terminal. */
export type ExecProcess = Partial<Process> & { readonly args: readonly string[] }

/** Options of {@link exec} and of `RuntimeContainer.exec`. */
export interface ExecOptions {
  /** Descriptors of this process that become 0, 1 and 2 of the new one; they stay open here. Default /dev/null. */
  readonly stdio?: readonly [stdin: number | undefined, stdout: number | undefined, stderr: number | undefined]
  /** Whether the process goes on when this one ends. Default false: it is killed with it. */
  readonly detach?: boolean | undefined
  /** As `handOver` of CreateOptions: whoever runs this process waits for the new one. Includes `detach`. Default false. */
  readonly handOver?: boolean | undefined
  /** How many descriptors of this process, from 3 on, the program gets by the same numbers; at most 240. Default 0. */
  readonly preserveFds?: number | undefined
  /**
   * Path of a cgroup below the container's, made where it is missing, and then removed at the end. Default: the
   * container's, or that of its first process when the container has handed controllers down to cgroups of its own.
   * On version 1 also by controller: `{ cpu: 'a', memory: 'b' }`, the others as by default.
   */
  readonly cgroup?: SubCgroupPath | undefined
  /**
   * For a process with `terminal`: path of a socket at which somebody else waits for the terminal, as runc's
   * `--console-socket`. Default: `terminal` of the process is it.
   */
  readonly consoleSocket?: string | undefined
  /** Whether a paused container is no error: the process then is made when it is resumed. Default false. */
  readonly ignorePaused?: boolean | undefined
  /**
   * Path of a socket at which somebody waits for a descriptor that stands for the process (a pidfd, which no other process
   * can come to be), as runc's `--pidfd-socket`.
   */
  readonly pidfdSocket?: string | undefined
  /** File to write the pid to, as the host sees it. */
  readonly pidFile?: string | undefined
  /** Aborting before the promise resolves rejects with `signal.reason` and leaves nothing behind. */
  readonly signal?: AbortSignal | undefined
}

/** How this module itself runs something in a container. */
export interface InternalExecOptions extends ExecOptions {
  /** Path of the program, where it is not the first argument. */
  readonly program?: string | undefined
  /** Whether nothing is taken from the container's own process. Default false. */
  readonly whole?: boolean | undefined
}

/** A container in which something is to be run. */
export interface ExecTarget {
  readonly record: ContainerRecord
  readonly spec: Spec
  /** Descriptor that stands for the first process. */
  readonly pidfd: number
  /** Who answers its system calls, where that are functions of this process. */
  readonly supervision?: Supervision | undefined
}

/**
 * Runs a further process in a container of any process. Resolves when the kernel has accepted the program. It
 * has all namespaces, the cgroup, the root and the seccomp filter of the container.
 * @throws NotFoundError when there is no container of that id. @throws ConflictError when it is not running.
 * @throws RuntimeError naming the step that failed; nothing is left behind. @throws InvalidArgumentError for
 * what can't be used of the options and the process.
 */
export async function exec(
  id: string,
  process: ExecProcess,
  options: ExecOptions & LookupOptions = {},
): Promise<RuntimeProcess> {
  const root = options.stateRoot ?? defaultStateRoot()
  const record = await readRecord(root, id)
  const pidfd = openFirstProcess(record)
  if (pidfd === undefined) throw notRunning(id)
  try {
    return await execIn({ record, spec: await readConfig(root, id), pidfd }, process, options)
  } finally {
    closeSync(pidfd)
  }
}

/** Runs a further process in a container that is at hand. */
export async function execIn(
  target: ExecTarget,
  given: ExecProcess,
  options: InternalExecOptions,
): Promise<RuntimeProcess> {
  try {
    return await enter(target, given, options)
  } catch (error) {
    throw unusable(error, 'process')
  }
}

async function enter(target: ExecTarget, given: ExecProcess, options: InternalExecOptions): Promise<RuntimeProcess> {
  const { signal, preserveFds = 0 } = options
  signal?.throwIfAborted()
  if (!Number.isInteger(preserveFds) || preserveFds < 0 || preserveFds > maxPreserved) {
    throw new InvalidArgumentError(`preserveFds must be 0 to ${maxPreserved}, not ${preserveFds}`, {
      subject: 'preserveFds',
    })
  }
  const { record } = target
  if (options.ignorePaused !== true && isFrozen(locateCgroup(record.cgroups))) {
    throw new ConflictError(record.id, `container ${record.id} is paused: cannot exec in a paused container`, {
      hint: 'Resume it before.',
    })
  }
  const v2 = hostHierarchies().v2?.mountPoint
  const directories = cgroupsToJoin(record)
  const execute = (cgroups: readonly ExecCgroup[]): Promise<RuntimeProcess> =>
    new Execution(target, planOf(target, given, options, cgroups), given, options).run()
  try {
    return await execute(directories)
  } catch (error) {
    // The container has handed controllers down to cgroups of its own: only those can have processes.
    const own = isBusy(error) && options.cgroup === undefined ? cgroupOfFirst(record, v2) : undefined
    if (own === undefined) throw error
    return execute(directories.map((each) => (each.version === 2 ? { ...each, directory: own } : each)))
  }
}

/** Whether a process could not be made in a cgroup because that is only for cgroups below it (cgroups(7)). */
function isBusy(error: unknown): boolean {
  const { cause } = error as { readonly cause?: unknown }
  return cause instanceof SyscallError && cause.syscall === 'clone3' && cause.errnoName === 'EBUSY'
}

/** The directory of the version 2 cgroup that the container's first process is in. */
function cgroupOfFirst({ pid }: ContainerRecord, v2: string | undefined): string | undefined {
  const path = /^0::(\/.*)$/m.exec(textOf(`/proc/${pid}/cgroup`) ?? '')?.[1]
  return path === undefined || v2 === undefined ? undefined : join(v2, path)
}

function planOf(
  target: ExecTarget,
  given: ExecProcess,
  options: InternalExecOptions,
  cgroups: readonly ExecCgroup[],
): ExecPlan {
  const { record, spec } = target
  const { preserveFds = 0 } = options
  return planExec({
    id: record.id,
    pid: record.pid,
    spec,
    bundle: record.bundle,
    process: { cwd: '/', ...(options.whole === true ? {} : spec.process), terminal: false, ...given },
    program: options.program,
    cgroups,
    subCgroup: options.cgroup,
    filter: seccompProgram(spec.linux?.seccomp, hostArchitecture(), {
      supervised: target.supervision !== undefined,
    }),
    outlive: outlives(options),
    preserveFds,
    host: thisHost(),
  })
}

/** Whether the process goes on without its maker. */
export function outlives({ detach, handOver }: Pick<ExecOptions, 'detach' | 'handOver'>): boolean {
  return detach === true || handOver === true
}

/** Above them are descriptors of our own. */
const maxPreserved = 240

/** The error for a container whose first process has ended. */
export function notRunning(id: string): ConflictError {
  return new ConflictError(id, `container ${id} is not running: cannot exec in a stopped container`)
}
