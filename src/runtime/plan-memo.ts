import { blank, filled } from '../linux/call.ts'
import type { Host } from './host.ts'
import { type Plan, type PlanOptions, planContainer } from './plan.ts'

/** What a plan was told by the host. */
interface Observation {
  readonly kind: 'isDirectory' | 'read' | 'writable'
  /** With a {@link blank} for the id. */
  readonly path: string
  readonly value: string | boolean | undefined
}

/** A plan for any id. */
interface Memo {
  readonly plan: Plan
  readonly observations: readonly Observation[]
}

/** Plans that are kept, of some hundred KB each. */
const most = 16

/** By all that a plan depends on but the host; undefined when one was made for a single id. */
const memos = new Map<string, Memo | undefined>()

/**
 * Plans the creation of a container as {@link planContainer} does. From the second time on that all but the id is the
 * same and the host still as it was, it is the same plan, with a {@link blank} in place of the id.
 * @param filter compiles `linux.seccomp` @param key all that the plan depends on besides the id and the host
 * @throws as {@link planContainer} does.
 */
export function planAgain(options: PlanOptions, filter: () => PlanOptions['filter'], key: string): Plan {
  const { id, host } = options
  const memo = memos.get(key)
  if (memo?.observations.every(({ kind, path, value }) => host[kind](filled(path, id)) === value)) return memo.plan
  const complete = { ...options, filter: filter() }
  const isAgain = memos.delete(key)
  if (memos.size >= most) memos.delete(memos.keys().next().value as string)
  if (!isAgain || memo !== undefined || !isForAny(complete, key)) {
    memos.set(key, undefined)
    return planContainer(complete)
  }
  const made = planForAny(complete)
  memos.set(key, made)
  return made.plan
}

/** Whether the id is of no importance but for names. */
function isForAny({ spec, scope, filter }: PlanOptions, key: string): boolean {
  const isNameOnly = scope === undefined && spec.linux?.intelRdt === undefined && filter?.notify !== true
  return isNameOnly && !key.includes(blank)
}

function planForAny(options: PlanOptions): Memo {
  const observations: Observation[] = []
  const known = new Set<string>()
  const { host } = options
  const observed =
    <Value extends string | boolean | undefined>(kind: Observation['kind'], look: (path: string) => Value) =>
    (path: string): Value => {
      const value = look(path)
      if (!known.has(kind + path)) observations.push({ kind, path, value })
      known.add(kind + path)
      return value
    }
  const watched: Host = {
    ...host,
    isDirectory: observed('isDirectory', host.isDirectory),
    read: observed('read', host.read),
    writable: observed('writable', host.writable),
  }
  return { plan: planContainer({ ...options, id: blank, host: watched }), observations }
}
