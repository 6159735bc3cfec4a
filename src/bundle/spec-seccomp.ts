import type { Int64 } from './spec.ts'

/** A seccomp profile (config-linux.md, "Seccomp"). */
export interface LinuxSeccomp {
  /** For every call that no entry of `syscalls` matches. */
  readonly defaultAction: SeccompAction
  /** For `SCMP_ACT_ERRNO` and `SCMP_ACT_TRACE`. Default EPERM (1). */
  readonly defaultErrnoRet?: number
  /** Architectures whose calls may be made; the native one is always among them. */
  readonly architectures?: readonly string[]
  readonly flags?: readonly SeccompFlag[]
  /** Unix socket that gets the descriptor for `SCMP_ACT_NOTIFY`. */
  readonly listenerPath?: string
  /** Passed on to the listener; only with `listenerPath`. */
  readonly listenerMetadata?: string
  readonly syscalls?: readonly LinuxSyscall[]
}

/** What happens with a matched call. `SCMP_ACT_KILL` is `SCMP_ACT_KILL_THREAD`. */
export type SeccompAction =
  | 'SCMP_ACT_KILL'
  | 'SCMP_ACT_KILL_PROCESS'
  | 'SCMP_ACT_KILL_THREAD'
  | 'SCMP_ACT_TRAP'
  | 'SCMP_ACT_ERRNO'
  | 'SCMP_ACT_TRACE'
  | 'SCMP_ACT_ALLOW'
  | 'SCMP_ACT_LOG'
  | 'SCMP_ACT_NOTIFY'

/** Flags of seccomp(2). */
export type SeccompFlag =
  | 'SECCOMP_FILTER_FLAG_TSYNC'
  | 'SECCOMP_FILTER_FLAG_LOG'
  | 'SECCOMP_FILTER_FLAG_SPEC_ALLOW'
  | 'SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV'

/** Comparisons, unsigned. `MASKED_EQ` holds when `(argument & value) === valueTwo`. */
export type SeccompOperator =
  | 'SCMP_CMP_NE'
  | 'SCMP_CMP_LT'
  | 'SCMP_CMP_LE'
  | 'SCMP_CMP_EQ'
  | 'SCMP_CMP_GE'
  | 'SCMP_CMP_GT'
  | 'SCMP_CMP_MASKED_EQ'

/** A rule for one or more calls. Names that an architecture does not have are passed over. */
export interface LinuxSyscall {
  readonly names: readonly string[]
  readonly action: SeccompAction
  /** For `SCMP_ACT_ERRNO` and `SCMP_ACT_TRACE`. Default EPERM (1). */
  readonly errnoRet?: number
  /** All of them have to hold. */
  readonly args?: readonly LinuxSeccompArg[]
}

/** A condition on one argument. */
export interface LinuxSeccompArg {
  /** 0 to 5. */
  readonly index: number
  readonly value: Int64
  readonly valueTwo?: Int64
  readonly op: SeccompOperator
}
