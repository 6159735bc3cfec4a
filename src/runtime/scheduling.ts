import type { Int64 } from '../bundle/spec.ts'
import type { Linux, LinuxMemoryPolicy } from '../bundle/spec-linux.ts'
import type { IoPriority, Process, Scheduler } from '../bundle/spec-process.ts'
import { InvalidArgumentError } from '../errors.ts'
import { largestNode, parseNumberList } from '../internal/number-list.ts'
import type { Call } from '../linux/call.ts'
import { ioprioSet, personality, schedSetattr, setMempolicy } from '../linux/calls/scheduling.ts'

/** Numbers of include/uapi/linux/sched.h. */
const policies: Readonly<Record<string, number>> = {
  SCHED_OTHER: 0,
  SCHED_FIFO: 1,
  SCHED_RR: 2,
  SCHED_BATCH: 3,
  SCHED_ISO: 4,
  SCHED_IDLE: 5,
  SCHED_DEADLINE: 6,
}
const schedulerFlags: Readonly<Record<string, number>> = {
  SCHED_FLAG_RESET_ON_FORK: 1,
  SCHED_FLAG_RECLAIM: 2,
  SCHED_FLAG_DL_OVERRUN: 4,
  SCHED_FLAG_KEEP_POLICY: 8,
  SCHED_FLAG_KEEP_PARAMS: 0x10,
  SCHED_FLAG_UTIL_CLAMP_MIN: 0x20,
  SCHED_FLAG_UTIL_CLAMP_MAX: 0x40,
}

/** Numbers of include/uapi/linux/ioprio.h. */
const ioClasses: Readonly<Record<string, number>> = {
  IOPRIO_CLASS_RT: 1,
  IOPRIO_CLASS_BE: 2,
  IOPRIO_CLASS_IDLE: 3,
}

/** Numbers of include/uapi/linux/mempolicy.h. */
export const memoryModes: Readonly<Record<string, number>> = {
  MPOL_DEFAULT: 0,
  MPOL_PREFERRED: 1,
  MPOL_BIND: 2,
  MPOL_INTERLEAVE: 3,
  MPOL_LOCAL: 4,
  MPOL_PREFERRED_MANY: 5,
  MPOL_WEIGHTED_INTERLEAVE: 6,
}
export const memoryFlags: Readonly<Record<string, number>> = {
  MPOL_F_NUMA_BALANCING: 1 << 13,
  MPOL_F_RELATIVE_NODES: 1 << 14,
  MPOL_F_STATIC_NODES: 1 << 15,
}

/** Numbers of include/uapi/linux/personality.h. */
const domains: Readonly<Record<string, number>> = { LINUX: 0, LINUX32: 8 }

/**
 * The calls that set how the kernel schedules a process and gives it memory, and what it passes itself off as. They
 * are inherited through execve; some take capabilities, so they come before those are dropped.
 */
export function schedulingCalls(process: Process, linux: Linux = {}): readonly Call[] {
  return [
    ...(process.scheduler === undefined ? [] : [schedulerCall(process.scheduler)]),
    ...(process.ioPriority === undefined ? [] : [ioPriorityCall(process.ioPriority)]),
    ...(linux.personality === undefined ? [] : [personalityCall(linux.personality.domain)]),
    ...(linux.memoryPolicy === undefined ? [] : [memoryPolicyCall(linux.memoryPolicy)]),
  ]
}

function schedulerCall(scheduler: Scheduler): Call {
  const pointer = '/process/scheduler'
  const { nice = 0, priority = 0 } = scheduler
  const attributes = {
    policy: numberOf(policies, scheduler.policy, `${pointer}/policy`),
    flags: sumOf(schedulerFlags, scheduler.flags, `${pointer}/flags`),
    nice,
    priority,
    runtime: nanoseconds(scheduler.runtime),
    deadline: nanoseconds(scheduler.deadline),
    period: nanoseconds(scheduler.period),
  }
  return schedSetattr(attributes, { step: `set the scheduling policy ${scheduler.policy}`, pointer })
}

function ioPriorityCall(value: IoPriority): Call {
  const pointer = '/process/ioPriority'
  const ioClass = numberOf(ioClasses, value.class, `${pointer}/class`)
  return ioprioSet(ioClass, value.priority ?? 0, { step: `set the I/O priority ${value.class}`, pointer })
}

function personalityCall(domain: string): Call {
  const pointer = '/linux/personality'
  const persona = numberOf(domains, domain, `${pointer}/domain`)
  return personality(persona, { step: `set the personality ${domain}`, pointer })
}

function memoryPolicyCall(policy: LinuxMemoryPolicy): Call {
  const pointer = '/linux/memoryPolicy'
  const mode = numberOf(memoryModes, policy.mode, `${pointer}/mode`)
  const flags = sumOf(memoryFlags, policy.flags, `${pointer}/flags`)
  const text = (policy.nodes ?? '').trim()
  const nodes = text === '' ? [] : parseNumberList(text, largestNode)
  if (nodes === undefined) {
    throw new InvalidArgumentError(`${pointer}/nodes: ${JSON.stringify(text)} is no list of memory nodes`)
  }
  return setMempolicy(mode | flags, nodes, { step: `set the memory policy ${policy.mode}`, pointer })
}

function nanoseconds(value: Int64 | undefined): bigint {
  return BigInt(value ?? 0)
}

function numberOf(table: Readonly<Record<string, number>>, name: string, pointer: string): number {
  const number = Object.hasOwn(table, name) ? table[name] : undefined
  if (number === undefined) throw new InvalidArgumentError(`${pointer}: Linux has no ${JSON.stringify(name)}`)
  return number
}

function sumOf(table: Readonly<Record<string, number>>, names: readonly string[] = [], pointer: string): number {
  return names.reduce((sum, name) => sum | numberOf(table, name, pointer), 0)
}
