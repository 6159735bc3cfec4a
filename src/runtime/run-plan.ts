import { posix } from 'node:path'
import type { Spec } from '../bundle/spec.ts'
import type { Process } from '../bundle/spec-process.ts'
import { InvalidArgumentError } from '../errors.ts'
import { parseJsonInt64, stringifyJsonInt64 } from '../internal/json-int64.ts'
import { lazy } from '../internal/lazy.ts'
import { hostArchitecture } from '../linux/architecture.ts'
import { type Call, type CallOptions, filled, isDistinct, withBlanks } from '../linux/call.ts'
import { AT_FDCWD, close, F_GETFD, fcntl, mkdirat, O, O_DIRECTORY, openat } from '../linux/calls/files.ts'
import { sethostname } from '../linux/calls/processes.ts'
import { receiveDescriptors } from '../linux/calls/sockets.ts'
import { syscallError } from '../linux/errno.ts'
import type { Results } from '../linux/runner.ts'
import { letsThrough } from '../linux/seccomp/lets-through.ts'
import type { Early } from './early.ts'
import { noProgram } from './no-program.ts'
import { openInRoot } from './paths.ts'
import type { Plan } from './plan.ts'
import {
  candidates,
  dieWithParent,
  dropCalls,
  enterDirectory,
  execution,
  filterCalls,
  isBounded,
  lookupCalls,
  rlimitCalls,
  type StartContext,
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
export interface PlannedRun {
  /** The config with what it runs: the container's own when it is as that has it. */
  readonly spec: Spec
  /** The text of that config, when it is another one. */
  readonly config: string | undefined
  readonly calls: readonly Call[]
  /** Places where the program may be, with blanks, and the calls that look there, and those that execute it. */
  readonly programs: readonly string[]
  readonly lookups: readonly Call[]
  readonly executions: readonly Call[]
  /** Whether they can be made after what was done early. */
  readonly isPossible: boolean
}

/** What a run depends on besides the config and the process. */
export interface RunSurroundings {
  readonly hostname: string | undefined
  /** Numbers of the standard streams that are handed over. */
  readonly streams: readonly number[]
  /** Number of the socket that they come by. */
  readonly socket: number
  readonly context: Plan['context']
  readonly early: Early
  /** Of the first process; only a listener is told. */
  readonly pid: number
}

/** Runs that are kept for each plan of containers: a pool mostly runs the same few programs. */
const most = 64

/** What was planned for the containers of one plan. */
interface Known {
  /** Their config, as a template for any id. */
  readonly config: () => Spec
  readonly runs: Map<string, PlannedRun>
}
const known = new WeakMap<StartContext, Known>()

/**
 * Plans the run of a program in a parked container, or finds the plan of the same run in another one of the same plan.
 * An id that is nothing else is in place of itself in all texts, as in that plan.
 * @throws InvalidArgumentError for what can't differ from run to run, and without a command.
 */
export function plannedRun(
  { id, config }: { readonly id: string; readonly config: Spec },
  given: PoolProcess,
  surroundings: RunSurroundings,
): PlannedRun {
  const { hostname, streams, socket, context, early, pid } = surroundings
  const done = [early.isFiltered, String(early.bounding)]
  const chosen = withBlanks(stringifyJsonInt64(given), id)
  const key = JSON.stringify([chosen, hostname, streams, socket, done, context.listener === undefined ? 0 : pid])
  const template = known.get(context) ?? { config: lazy(() => templateOf(config, id)), runs: new Map() }
  known.set(context, template)
  const { runs } = template
  const found = runs.get(key) ?? planRun(template.config(), parsed(chosen), surroundings)
  if (!runs.has(key)) {
    if (runs.size >= most) runs.delete(runs.keys().next().value as string)
    runs.set(key, found)
  }
  // Whoever gave it may change it.
  const spec = found.config === undefined ? config : specOfRun(config, structuredClone(given), hostname).spec
  return { ...found, spec, config: found.config && filled(found.config, id) }
}

function templateOf(config: Spec, id: string): Spec {
  return isDistinct(id) ? (parsed(withBlanks(stringifyJsonInt64(config), id)) as Spec) : config
}

function parsed<T>(text: string): T {
  return parseJsonInt64(Buffer.from(text), 'the process') as T
}

/** Plans the run of a program in a parked container. Pure. @throws as {@link plannedRun} does. */
export function planRun(parked: Spec, given: PoolProcess, surroundings: RunSurroundings): PlannedRun {
  const { pid, hostname, streams, socket, early } = surroundings
  const { filter } = surroundings.context
  const left = { bounding: early.bounding, ...(early.isFiltered ? { filter: undefined } : {}) }
  const context = { ...surroundings.context, ...left }
  const { process, spec } = specOfRun(parked, given, hostname)
  const programs = candidates(process)
  const lookups = lookupCalls(programs)
  const executions = programs.map((program) => execution(process, program, 'any'))
  const named =
    hostname === undefined ? [] : [sethostname(hostname, { step: 'set the hostname', pointer: '/hostname' })]
  const calls = [
    ...named,
    ...(process.cwd === (parked.process?.cwd ?? '/') ? [] : makeDirectory(process.cwd)),
    // Before a descriptor comes that may lead to the host.
    ...enterDirectory(process.cwd),
    ...lookups,
    ...receiveStreams(streams, socket),
    ...schedulingCalls(process, spec.linux),
    ...rlimitCalls(process),
    ...dropCalls(process, context),
    ...(context.socket === undefined ? [] : dieWithParent(context.socket)),
    ...filterCalls(process, context, { container: pid, process: pid }),
    ...executions,
  ]
  const config = spec === parked ? undefined : stringifyJsonInt64(spec)
  const isAllowed = !early.isFiltered || filter === undefined || letsThrough(filter.program, calls, hostArchitecture())
  return { spec, config, calls, programs, lookups, executions, isPossible: isAllowed && isBounded(process, context) }
}

/** Makes a directory of the root with those above it, where they are missing; entering it tells whether it is there. */
function makeDirectory(path: string): readonly Call[] {
  const why: CallOptions = { step: 'make the working directory', pointer: '/process/cwd', tolerate: 'any' }
  const root = openat(AT_FDCWD, '/', O.PATH | O_DIRECTORY, 0, why)
  const names = posix.normalize(path).split('/').filter(Boolean)
  // Confined to the root, as when a container is made: in /proc a link may lead to where another process is.
  const made = names.flatMap((name, index) => {
    const parent = openInRoot(root, `/${names.slice(0, index).join('/')}`, why)
    return [parent, mkdirat(parent, name, 0o755, why), close(parent, why)]
  })
  return [root, ...made, close(root, why)]
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

/** @throws InvalidArgumentError for what can't differ from run to run. */
export function checkRun(spec: Spec, given: PoolProcess, hostname: string | undefined): void {
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
  if (given.cwd !== undefined && !given.cwd.startsWith('/')) {
    throw new InvalidArgumentError(`process.cwd must be an absolute path, not ${given.cwd}`, { subject: 'cwd' })
  }
}

function specOfRun(spec: Spec, given: PoolProcess, hostname: string | undefined): { process: Process; spec: Spec } {
  checkRun(spec, given, hostname)
  // Who does not mean it writes that, too: it must not take away what the config has.
  const chosen = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
  const process = { cwd: '/', ...spec.process, ...chosen }
  if (Object.keys(chosen).length === 0 && hostname === undefined) return { process, spec }
  return { process, spec: { ...spec, process, ...(hostname === undefined ? {} : { hostname }) } }
}

/** Why no program was executed: those that were there say more than those that were not. */
export function whyNone(id: string, run: PlannedRun, results: Results): unknown {
  const found = run.lookups.map((call) => results.value(call))
  const tried = run.executions[found.indexOf(0)]
  if (tried !== undefined) return syscallError(tried, -results.value(tried))
  const programs = run.programs.map((each) => filled(each, id))
  return noProgram(id, run.spec.process?.args?.[0] ?? '', programs, found)
}
