import { RuntimeError } from '../errors.ts'
import type { Call } from '../linux/call.ts'
import type { CallRunner, Results } from '../linux/runner.ts'
import type { FoundTarget, Target } from './masks.ts'
import type { Plan } from './plan.ts'

/**
 * What the first process of a container finds at the paths that are masked or read-only is what those of earlier ones
 * with the same plan have found: its two batches can be one. The kernel refuses to put a file over a directory, and the
 * other way round, and paths that were not there before are looked for: see {@link isAsForeseen}.
 */
interface Foresight {
  /** Paths that are expected not to be there. */
  readonly missing: readonly Target[]
  readonly calls: readonly Call[]
}

/** None for a plan of which something was otherwise once. */
const known = new WeakMap<Plan, Foresight | undefined>()

/** The calls of both batches of the first process, where it is known what they find. */
export function foreseenCalls(plan: Plan): readonly Call[] | undefined {
  return known.get(plan)?.calls
}

/** Remembers what a first process has found. */
export function foresee(plan: Plan, found: readonly FoundTarget[]): void {
  if (known.has(plan)) return
  const there = new Set(found.map(({ target }) => target))
  const looks = new Set(plan.targets.map(({ look }) => look))
  known.set(plan, {
    missing: plan.targets.filter((target) => !there.has(target)),
    calls: [
      ...plan.setup.filter((call) => !looks.has(call)),
      ...plan.finish(found.map((each) => ({ ...each, descriptor: each.target.handle }))),
    ],
  })
}

/** From now on the batches of the plan are made one after the other. */
export function forgetForesight(plan: Plan): void {
  known.set(plan, undefined)
}

/** Whether there was no more than was expected; of what was missing a call has failed. */
export function isAsForeseen(plan: Plan, results: Results): boolean {
  return known.get(plan)?.missing.every(({ handle }) => results.value(handle) < 0) === true
}

/** There is nobody any more who could do what an examination asks for. */
export const nobody: CallRunner = { run: () => Promise.reject(otherwise()) }

/** Never told: the container is made again, with nothing foreseen. */
export function otherwise(): RuntimeError {
  return new RuntimeError('it is not as was foreseen', { step: 'look at what is there' })
}
