import { RuntimeError } from '../errors.ts'
import type { Call } from '../linux/call.ts'
import type { CallRunner, Results } from '../linux/runner.ts'
import type { CreateOptions } from './create.ts'
import type { InternalCreateOptions } from './creation.ts'
import { descriptor } from './descriptors.ts'
import { outlives } from './exec.ts'
import { createHooks, hasHooks } from './hooks.ts'
import type { FoundTarget, Target } from './masks.ts'
import { aloneBatch, type Watch } from './monitor.ts'
import type { Plan } from './plan.ts'
import { keepingPipe } from './plan-descriptors.ts'
import { isOwnProc } from './processes.ts'

/**
 * What the first process of a container finds at the paths that are masked or read-only is what those of earlier ones
 * with the same plan have found: its two batches can be one. The kernel refuses to put a file over a directory, and the
 * other way round, and paths that were not there before are looked for: see {@link isAsForeseen}.
 */
export interface Foresight {
  /** Paths that are expected not to be there. */
  readonly missing: readonly Target[]
  /** The calls of both batches. */
  readonly calls: readonly Call[]
  /** As `calls`, for a first process whose start a pipe tells of. */
  readonly aloneCalls: readonly Call[]
}

/** None for a plan of which something was otherwise once. */
const known = new WeakMap<Plan, Foresight | undefined>()

/** Undefined where it is not known what the first process finds. */
export function foresightOf(plan: Plan): Foresight | undefined {
  return known.get(plan)
}

/** Remembers what a first process has found. */
export function foresee(plan: Plan, found: readonly FoundTarget[]): void {
  if (known.has(plan)) return
  const there = new Set(found.map(({ target }) => target))
  const looks = new Set(plan.targets.map(({ look }) => look))
  const calls = [
    ...plan.setup.filter((call) => !looks.has(call)),
    ...plan.finish(found.map((each) => ({ ...each, descriptor: each.target.handle }))),
  ]
  const missing = plan.targets.filter((target) => !there.has(target))
  known.set(plan, { missing, calls, aloneCalls: keepingPipe(calls) })
}

/** From now on the batches of the plan are made one after the other. */
export function forgetForesight(plan: Plan): void {
  known.set(plan, undefined)
}

/** Whether there was no more than was expected; of what was missing a call has failed. */
export function isAsForeseen(plan: Plan, results: Results): boolean {
  return known.get(plan)?.missing.every(({ handle }) => results.value(handle) < 0) === true
}

/** Whether the first process must not begin before this one has done something. */
export function isAwaited({ namespaces, cgroup }: Plan): boolean {
  return namespaces.stage === undefined && (namespaces.isNew('user') || cgroup.placement !== undefined)
}

/** Whether nothing of this process comes between the two batches of the first one, and both can be made again. */
export function isUninterrupted({ spec, hooks, rootTree }: CreateOptions, plan: Plan): boolean {
  if (isAwaited(plan)) return false
  if (rootTree !== undefined || plan.listener !== undefined || spec.process?.terminal === true) return false
  const hasDevices = Object.keys(spec.linux?.netDevices ?? {}).length > 0
  return !hasDevices && !createHooks.some((kind) => hasHooks(kind, spec, hooks))
}

/**
 * Whether the monitor of a container that is made as was foreseen needs nothing of this process before the container has
 * ended: also its wait can be handed over at once. The first process tells its pid itself, and nobody needs hold of it
 * while it may be another's.
 */
export function needsNothing(options: InternalCreateOptions, plan: Plan): boolean {
  const { cgroup, namespaces, stat } = plan
  // One that outlives this process is not ended by being hung up on.
  if (options.parked || outlives(options) || options.pidfdSocket !== undefined) return false
  // Then, and without a stage, the numbers of its pipe are free: only the lock's is taken of those behind the socket.
  if (plan.channel !== descriptor.init) return false
  // In a joined user namespace its score is set from outside.
  const isPlain = namespaces.stage === undefined && !namespaces.has('user')
  return isPlain && cgroup.placement === undefined && cgroup.verify === undefined && stat !== undefined && isOwnProc()
}

const batches = new WeakMap<Watch, readonly Call[]>()

/** The batch of a monitor that needs nothing. */
export function aloneBatchOf(plan: Plan, watch: Watch): readonly Call[] {
  let batch = batches.get(watch)
  if (batch === undefined) {
    batch = aloneBatch(plan, watch)
    batches.set(watch, batch)
  }
  return batch
}

/** There is nobody any more who could do what an examination asks for. */
export const nobody: CallRunner = { run: () => Promise.reject(otherwise()) }

/** Never told: the container is made again, with nothing foreseen. */
export function otherwise(): RuntimeError {
  return new RuntimeError('it is not as was foreseen', { step: 'look at what is there' })
}
