import type { Spec } from '../bundle/spec.ts'
import { hostArchitecture } from '../linux/architecture.ts'
import type { Call } from '../linux/call.ts'
import { remoteCalls } from '../linux/remote/own-calls.ts'
import { letsThrough } from '../linux/seccomp/lets-through.ts'
import { isAdministrator, loadFilter, type StartContext } from './process.ts'
import { planRun } from './run-plan.ts'

/**
 * The calls by which the first process of a parked container loads its filter before it waits, which takes as long as all
 * else that it does when it is to run. None when the filter is not sure to let through what comes afterwards, for the process
 * of the config; what a run may choose besides is looked at again.
 * @param socket by which standard streams are handed over
 */
export function earlyFilter(spec: Spec, context: StartContext, socket: number): readonly Call[] {
  const { filter, listener } = context
  if (filter === undefined || listener !== undefined || !isAdministrator(context)) return []
  if (!letsThrough(filter.program, remoteCalls, hostArchitecture())) return []
  const surroundings = { hostname: undefined, streams: [0, 1, 2], socket, context, isFiltered: true, pid: 0 }
  return planRun(spec, { args: ['/'] }, surroundings).isLetThrough ? [loadFilter(filter)] : []
}
