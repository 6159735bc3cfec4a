import type { Spec } from '../bundle/spec.ts'
import { hostArchitecture } from '../linux/architecture.ts'
import type { Call } from '../linux/call.ts'
import { remoteCalls } from '../linux/remote/own-calls.ts'
import { letsThrough } from '../linux/seccomp/lets-through.ts'
import { boundingCalls, boundingSet, isAdministrator, loadFilter, type StartContext } from './process.ts'
import { planRun } from './run-plan.ts'

/** What the first process of a parked container has done when it waits, so that a run need not do it. */
export interface Early {
  readonly calls: readonly Call[]
  /** Whether its seccomp filter is in force. */
  readonly isFiltered: boolean
  /** Capabilities that are left in its bounding set; undefined when it is as it was. */
  readonly bounding: bigint | undefined
}

export const nothingEarly: Early = { calls: [], isFiltered: false, bounding: undefined }

/**
 * Plans what can be done early for runs that are as the config has it: what takes longest. The filter comes early when it is
 * sure to let through what is called afterwards. What a run chooses is looked at when it is planned.
 * @param socket by which standard streams are handed over
 */
export function planEarly(spec: Spec, context: StartContext, socket: number): Early {
  const bounding = boundingSet(spec.process ?? {}, context)
  const calls = bounding === undefined ? [] : boundingCalls(bounding)
  const { filter, listener } = context
  const unfiltered = { calls, isFiltered: false, bounding }
  if (filter === undefined || listener !== undefined || !isAdministrator(context)) return unfiltered
  if (!letsThrough(filter.program, remoteCalls, hostArchitecture())) return unfiltered
  const early = { calls: [...calls, loadFilter(filter)], isFiltered: true, bounding }
  const surroundings = { hostname: undefined, streams: [0, 1, 2], socket, context, early, pid: 0 }
  return planRun(spec, { args: ['/'] }, surroundings).isPossible ? early : unfiltered
}
