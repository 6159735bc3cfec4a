import { closeSync } from 'node:fs'
import { posix } from 'node:path'
import type { Spec } from '../bundle/spec.ts'
import type { Process } from '../bundle/spec-process.ts'
import { type ExitStatus, InvalidArgumentError } from '../errors.ts'
import type { Call, CallOptions } from '../linux/call.ts'
import { AT_FDCWD, close, F_GETFD, fcntl, mkdirat } from '../linux/calls/files.ts'
import { sethostname } from '../linux/calls/processes.ts'
import { receiveDescriptors, sendDescriptors } from '../linux/calls/sockets.ts'
import { syscallError } from '../linux/errno.ts'
import { perform } from '../linux/local.ts'
import type { Results } from '../linux/runner.ts'
import type { RuntimeContainer } from './container.ts'
import { noProgram } from './no-program.ts'
import type { Plan } from './plan.ts'
import {
  candidates,
  dieWithParent,
  dropCalls,
  enterDirectory,
  execution,
  filterCalls,
  lookupCalls,
  rlimitCalls,
} from './process.ts'
import { schedulingCalls } from './scheduling.ts'

/** What a container of a pool is told only when it is to run: what is not given is as the pool's config has it. */
export type PoolProcess = Partial<
  Pick<
    Process,
    'args' | 'env' | 'cwd' | 'user' | 'capabilities' | 'rlimits' | 'noNewPrivileges' | 'scheduler' | 'ioPriority'
  >
>

const varying: readonly string[] = [
  'args',
  'env',
  'cwd',
  'user',
  'capabilities',
  'rlimits',
  'noNewPrivileges',
  'scheduler',
  'ioPriority',
] satisfies readonly (keyof PoolProcess)[]

/** Options of a run. */
export interface PoolRunOptions {
  /** Descriptors of this process that become 0, 1 and 2 of the program; they stay open here. Default /dev/null. */
  readonly stdio?: readonly [stdin: number | undefined, stdout: number | undefined, stderr: number | undefined]
  /** Name of the host in the container. Default the config's. */
  readonly hostname?: string | undefined
  /** Aborting before the promise resolves rejects with `signal.reason` and leaves nothing behind. */
  readonly signal?: AbortSignal | undefined
}

/** How the first process of a parked container becomes a program, in one batch. */
export interface RunPlan {
  readonly calls: readonly Call[]
  /** Places where the program may be, and the calls that look there, and those that execute it. */
  readonly programs: readonly string[]
  readonly lookups: readonly Call[]
  readonly executions: readonly Call[]
}

/** What a batch of a run depends on. */
interface RunPlanOptions {
  /** The whole process. */
  readonly process: Process
  readonly hostname: string | undefined
  /** Directory that exists already. */
  readonly madeDirectory: string
  /** Numbers of the standard streams that are handed over. */
  readonly streams: readonly number[]
  /** Number of the socket that they come by. */
  readonly socket: number
  readonly linux: Spec['linux']
  readonly context: Plan['context']
  readonly pid: number
}

/** Plans the run of a program in a parked container. Pure. */
export function planRun(options: RunPlanOptions): RunPlan {
  const { process, context, pid, hostname } = options
  const programs = candidates(process)
  const lookups = lookupCalls(programs)
  const executions = programs.map((program) => execution(process, program, 'any'))
  const named =
    hostname === undefined ? [] : [sethostname(hostname, { step: 'set the hostname', pointer: '/hostname' })]
  const calls = [
    ...named,
    ...(process.cwd === options.madeDirectory ? [] : makeDirectory(process.cwd)),
    // Before a descriptor comes that may lead to the host.
    ...enterDirectory(process.cwd),
    ...lookups,
    ...receiveStreams(options.streams, options.socket),
    ...schedulingCalls(process, options.linux),
    ...rlimitCalls(process),
    ...dropCalls(process, context),
    ...(context.socket === undefined ? [] : dieWithParent(context.socket)),
    ...filterCalls(process, context, { container: pid, process: pid }),
    ...executions,
  ]
  return { calls, programs, lookups, executions }
}

/** Makes a directory of the root with those above it, where they are missing; entering it tells whether it is there. */
function makeDirectory(path: string): readonly Call[] {
  const why: CallOptions = { step: 'make the working directory', pointer: '/process/cwd', tolerate: 'any' }
  const names = posix.normalize(path).split('/').filter(Boolean)
  return names.map((_, index) => mkdirat(AT_FDCWD, `/${names.slice(0, index + 1).join('/')}`, 0o755, why))
}

function receiveStreams(streams: readonly number[], socket: number): readonly Call[] {
  const why: CallOptions = { step: 'take over the standard streams' }
  const last = streams.at(-1)
  if (last === undefined) return [close(socket, why)]
  return [
    // Descriptors get the lowest free numbers, in their order.
    ...streams.map((stream) => close(stream, why)),
    receiveDescriptors(socket, streams.length, why),
    // With fewer than were sent it would be missing.
    fcntl(last, F_GETFD, 0, why),
    close(socket, why),
  ]
}

/** A created container whose first process has not been told yet what to run. */
export class ParkedContainer {
  readonly container: RuntimeContainer
  private readonly plan: Plan
  /** This end of the socket by which the standard streams are handed over. */
  private readonly socket: number
  private isOpen = true

  /** Takes over `socket`. */
  constructor(container: RuntimeContainer, plan: Plan, socket: number) {
    this.container = container
    this.plan = plan
    this.socket = socket
  }

  /** Resolves when it can't be used any more. */
  get ended(): Promise<ExitStatus> {
    return this.container.exited
  }

  /**
   * Runs a program in it; resolves when the kernel has accepted it. To be called once.
   * @throws what `start` of the container throws; the container is deleted then.
   */
  async run(given: PoolProcess, options: PoolRunOptions): Promise<RuntimeContainer> {
    const { container } = this
    const { signal, hostname, stdio = [] } = options
    const interrupt = (): void => void container.delete({ force: true }).catch(() => {})
    try {
      const spec = specOfRun(container.config, given, hostname)
      const streams = stdio.flatMap((fd, stream) => (fd === undefined ? [] : [{ fd, stream }]))
      const plan = planRun({
        process: spec.process as Process,
        hostname,
        madeDirectory: container.config.process?.cwd ?? '/',
        streams: streams.map(({ stream }) => stream),
        socket: this.plan.channel + 1,
        linux: spec.linux,
        context: this.plan.context,
        pid: container.pid,
      })
      signal?.throwIfAborted()
      signal?.addEventListener('abort', interrupt, { once: true })
      if (streams.length > 0) {
        const descriptors = streams.map(({ fd }) => fd)
        perform(sendDescriptors(this.socket, ' ', descriptors, { step: 'hand over the standard streams' }))
      }
      const noneExecuted = (results: Results): unknown => whyNone(container.id, spec.process?.args?.[0], plan, results)
      const started = container.startWith(plan.calls, { spec, noneExecuted })
      this.close()
      await started
      signal?.throwIfAborted()
      return container
    } catch (cause) {
      await this.remove().catch(() => {})
      signal?.throwIfAborted()
      throw cause
    } finally {
      signal?.removeEventListener('abort', interrupt)
    }
  }

  /** Deletes the container. Idempotent. */
  async remove(): Promise<void> {
    this.close()
    await this.container.delete({ force: true })
  }

  private close(): void {
    if (this.isOpen) closeSync(this.socket)
    this.isOpen = false
  }
}

/**
 * The config of one run of a pool.
 * @throws InvalidArgumentError for what can't differ from run to run.
 */
export function specOfRun(spec: Spec, given: PoolProcess, hostname: string | undefined): Spec {
  const fixed = Object.keys(given).find((name) => !varying.includes(name))
  if (fixed !== undefined) {
    throw new InvalidArgumentError(`process.${fixed} is the same for all containers of a pool`, {
      subject: fixed,
      hint: 'Give it to createPool, or use createContainer.',
    })
  }
  if (hostname !== undefined && !spec.linux?.namespaces?.some(({ type, path }) => type === 'uts' && !path)) {
    throw new InvalidArgumentError("a container without a uts namespace of its own has the host's name", {
      subject: 'hostname',
    })
  }
  const changed = { ...spec, process: { cwd: '/', ...spec.process, ...given } }
  if (!changed.process.cwd.startsWith('/')) {
    throw new InvalidArgumentError(`process.cwd must be an absolute path, not ${changed.process.cwd}`, {
      subject: 'cwd',
    })
  }
  return hostname === undefined ? changed : { ...changed, hostname }
}

/** Why no program was executed: those that were there say more than those that were not. */
function whyNone(id: string, name: string | undefined, plan: RunPlan, results: Results): unknown {
  const found = plan.lookups.map((call) => results.value(call))
  const tried = plan.executions[found.indexOf(0)]
  if (tried !== undefined) return syscallError(tried, -results.value(tried))
  return noProgram(id, name ?? '', plan.programs, found)
}
