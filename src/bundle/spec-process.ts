import type { Int64 } from './spec.ts'

/** The process to run (config.md, "Process"). */
export interface Process {
  /** Whether a pseudo-terminal is made for it. Default false. */
  readonly terminal?: boolean
  /** Size of that terminal, in characters; ignored without `terminal`. */
  readonly consoleSize?: ConsoleSize
  /** Working directory, absolute. */
  readonly cwd: string
  /** `KEY=value` entries. */
  readonly env?: readonly string[]
  /** The program and its arguments; at least one entry. */
  readonly args?: readonly string[]
  /** Command line; Windows only. */
  readonly commandLine?: string
  readonly user?: User
  /** Resource limits, each type once. */
  readonly rlimits?: readonly Rlimit[]
  /** AppArmor profile. */
  readonly apparmorProfile?: string
  /** SELinux label. */
  readonly selinuxLabel?: string
  readonly capabilities?: Capabilities
  /** Sets `no_new_privs`. */
  readonly noNewPrivileges?: boolean
  /** Value for `oom_score_adj`, -1000 to 1000; untouched when not set. */
  readonly oomScoreAdj?: number
  readonly scheduler?: Scheduler
  readonly ioPriority?: IoPriority
  /** CPUs for processes that enter later (exec). */
  readonly execCPUAffinity?: CpuAffinity
}

/** Size of a terminal in characters. */
export interface ConsoleSize {
  readonly height: number
  readonly width: number
}

/** Numeric ids in the container (config.md, "POSIX-platform User"). */
export interface User {
  /** Default 0. */
  readonly uid?: number
  /** Default 0. */
  readonly gid?: number
  /** File mode creation mask; the runtime's when not set. */
  readonly umask?: number
  readonly additionalGids?: readonly number[]
  /** Windows only. */
  readonly username?: string
}

/** A resource limit as in getrlimit(2). The largest value of 64 bits means unlimited. */
export interface Rlimit {
  /** `RLIMIT_NOFILE`, … */
  readonly type: string
  readonly soft: Int64
  readonly hard: Int64
}

/** Sets of capability names (`CAP_CHOWN`); what can't be granted is a warning, not an error. */
export interface Capabilities {
  readonly bounding?: readonly string[]
  readonly permitted?: readonly string[]
  readonly effective?: readonly string[]
  readonly inheritable?: readonly string[]
  readonly ambient?: readonly string[]
}

/** Scheduling attributes as in sched_setattr(2). */
export interface Scheduler {
  readonly policy: SchedulerPolicy
  /** Default 0. */
  readonly nice?: number
  /** Static priority of the real-time policies. Default 0. */
  readonly priority?: number
  readonly flags?: readonly SchedulerFlag[]
  /** Nanoseconds; deadline policy. */
  readonly runtime?: Int64
  readonly deadline?: Int64
  readonly period?: Int64
}

/** Scheduling policies. */
export type SchedulerPolicy =
  | 'SCHED_OTHER'
  | 'SCHED_FIFO'
  | 'SCHED_RR'
  | 'SCHED_BATCH'
  | 'SCHED_ISO'
  | 'SCHED_IDLE'
  | 'SCHED_DEADLINE'

/** Flags of sched_setattr(2). */
export type SchedulerFlag =
  | 'SCHED_FLAG_RESET_ON_FORK'
  | 'SCHED_FLAG_RECLAIM'
  | 'SCHED_FLAG_DL_OVERRUN'
  | 'SCHED_FLAG_KEEP_POLICY'
  | 'SCHED_FLAG_KEEP_PARAMS'
  | 'SCHED_FLAG_UTIL_CLAMP_MIN'
  | 'SCHED_FLAG_UTIL_CLAMP_MAX'

/** I/O priority as in ioprio_set(2). */
export interface IoPriority {
  readonly class: 'IOPRIO_CLASS_RT' | 'IOPRIO_CLASS_BE' | 'IOPRIO_CLASS_IDLE'
  /** 0 (highest) to 7. */
  readonly priority?: number
}

/** CPU lists such as `0-3,7`. */
export interface CpuAffinity {
  /** Before the process moves to the container's cgroup. */
  readonly initial?: string
  /** After it. */
  readonly final?: string
}
