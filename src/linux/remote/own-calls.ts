import { type Call, call, out } from '../call.ts'

const unknown = out(0)

/** What the program of a remote process calls besides its batches, as a filter is asked that may look at no argument. */
export const remoteCalls: readonly Call[] = ['recvfrom', 'sendto', 'exit_group'].map((name) =>
  call(
    name,
    Array.from({ length: 6 }, () => unknown),
  ),
)
