import type { SyscallError } from '../errors.ts'
import type { Arg, Call, Out } from './call.ts'
import type { CallRunner, Results } from './runner.ts'

/** How far a batch came before one of its calls failed. */
export interface Interruption {
  readonly calls: readonly Call[]
  /** Position of the call that failed. */
  readonly position: number
  /** Of the calls before it. */
  readonly results: Results
}

// Beside the error, of which only whoever can go on wants that.
const interruptions = new WeakMap<SyscallError, Interruption>()

/** Remembers how far the batch came that `error` ended. */
export function interrupted(error: SyscallError, interruption: Interruption): SyscallError {
  interruptions.set(error, interruption)
  return error
}

/** How far the batch came that `error` ended; undefined for any other error. */
export function interruptionOf(error: unknown): Interruption | undefined {
  return interruptions.get(error as SyscallError)
}

/**
 * Goes on with an interrupted batch at the call that failed, when what it failed for has been put right.
 * @returns what the whole batch gave. @throws SyscallError of which {@link interruptionOf} knows the whole batch, too.
 */
export async function resume(runner: CallRunner, { calls, position, results }: Interruption): Promise<Results> {
  const before = new Map(calls.slice(0, position).map((call) => [call, results.value(call)]))
  const known = (arg: Arg): Arg => before.get(arg as Call) ?? arg
  // What refers to results of the first part is told them; what refers to such a call must find its copy.
  const copies = new Map<Call, Call>()
  for (const call of calls.slice(position)) {
    copies.set(call, { ...call, args: call.args.map((arg) => copies.get(arg as Call) ?? known(arg)) })
  }
  const rest = [...copies.values()]
  const joined = (later: Results): Results => ({
    value: (call) => before.get(call) ?? later.value(copies.get(call) ?? call),
    bytes: (out) => (rest.some(({ args }) => args.some((arg) => mentions(arg, out))) ? later : results).bytes(out),
  })
  try {
    return joined(await runner.run(rest))
  } catch (error) {
    const next = interruptionOf(error)
    if (next === undefined) throw error
    const whole = { calls, position: position + next.position, results: joined(next.results) }
    throw interrupted(error as SyscallError, whole)
  }
}

function mentions(arg: Arg, out: Out): boolean {
  if (typeof arg !== 'object' || !('kind' in arg)) return false
  return arg === out || (arg.kind === 'struct' && arg.words.some((word) => mentions(word, out)))
}
