import { lastOf } from '../internal/lazy.ts'
import type { NamespacePlan } from './namespaces.ts'
import type { Plan, PlanOptions } from './plan.ts'
import { channelOf, listenerSocket } from './plan-descriptors.ts'
import { type StartContext, startCalls } from './process.ts'
import { schedulingCalls } from './scheduling.ts'
import { listenerOf } from './seccomp-listener.ts'
import { maySetGroups } from './set-groups.ts'

/** How the first process becomes the program of the config; undefined without one. */
export function planStart({ spec }: PlanOptions, context: StartContext): Plan['start'] {
  const { process } = spec
  if (process === undefined) return undefined
  const scheduling = schedulingCalls(process, spec.linux)
  const calls = startCalls(process, context)
  // Only a listener is told the pid.
  const keyOf = (program: string, pid: number) => (context.listener === undefined ? program : `${pid} ${program}`)
  return lastOf(keyOf, (program, pid) => [...scheduling, ...calls(program, pid)])
}

/** What becoming a program takes besides the config's process. */
export function startContext(options: PlanOptions, namespaces: NamespacePlan): StartContext {
  const { spec, host } = options
  const socket = listenerSocket(options)
  return {
    filter: options.filter,
    listener: socket === undefined ? undefined : listenerOf(spec, { ...options, status: 'created' }, socket),
    grantable: namespaces.has('user') ? ~0n : host.capabilities,
    setgroups: maySetGroups(spec, host, namespaces.isNew('user')),
    socket: options.outlive ? undefined : channelOf(options),
  }
}
