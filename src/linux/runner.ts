import type { Call, Out } from './call.ts'

/** What a batch gave. */
export interface Results {
  /** Result of a call of the batch; negative errno where that errno is tolerated. */
  value(call: Call): number
  /** What the kernel wrote to a piece of memory. */
  bytes(out: Out): Buffer
}

/** What makes calls in batches: a remote process, its child behind a channel, or a recording fake. */
export interface CallRunner {
  /**
   * Makes `calls` in order and stops at the first that fails with an errno which it does not tolerate.
   * @throws SyscallError for that call; its `step`, `pointer` and `path` are the call's.
   */
  run(calls: readonly Call[]): Promise<Results>
}
