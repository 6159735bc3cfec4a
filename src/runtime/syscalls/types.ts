import type { SeccompArchitecture } from '../../linux/seccomp-numbers.ts'

export type { SeccompArchitecture }

/** A system call of a container that waits for the answer of a {@link SyscallHandler}. */
export interface WaitingSyscall {
  /** As the kernel names it, for example `mkdirat`. */
  readonly name: string
  /** Of the program that makes it; the arguments of one and the same call can differ from one to the other. */
  readonly architecture: SeccompArchitecture
  /** The thread that makes it, as the host sees it. It waits, unless it has been killed meanwhile. */
  readonly pid: number
  /** The six arguments, unsigned; what the call does not take is whatever the register had. */
  readonly args: readonly bigint[]
  /** Aborts when the time for the answer is over. */
  readonly signal: AbortSignal
  /**
   * Copies memory of the caller: 1 to 65,536 bytes. Other threads of it may change that memory at any time.
   * @throws SyscallError (EFAULT) where there is no such memory. @throws ConflictError when the caller does not wait any
   * more. @throws TimeoutError when it can't be read within two seconds.
   */
  readMemory(address: bigint, length: number): Promise<Buffer>
  /**
   * Copies text of the caller up to its NUL, such as a path: at most `limit` bytes, by default 4096.
   * @throws LimitError when it has no NUL up to there; and what {@link WaitingSyscall.readMemory} throws.
   */
  readString(address: bigint, limit?: number): Promise<string>
}

/**
 * What a system call comes to:
 * - `continue`: the kernel makes it. Not for checks of what pointers lead to: it is read again then.
 * - `errno`: it fails, as `EPERM` or 1.
 * - `value`: it returns that and does nothing else.
 * - `descriptor`: it returns a descriptor, a copy of one of this process. That one is closed here unless `keepOpen`;
 *   that of the caller is close-on-exec unless `closeOnExec` is false. Linux 5.14.
 */
export type SyscallAnswer =
  | 'continue'
  | { readonly errno: string | number }
  | { readonly value: number | bigint }
  | { readonly descriptor: number; readonly closeOnExec?: boolean; readonly keepOpen?: boolean }

/** Answers a system call. */
export type SyscallHandler = (call: WaitingSyscall) => Promise<SyscallAnswer>

/** Functions that answer system calls, by the names of these. */
export type SyscallHandlers = { readonly [name: string]: SyscallHandler }
