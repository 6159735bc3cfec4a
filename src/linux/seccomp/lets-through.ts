import type { Architecture } from '../architecture.ts'
import type { Arg, Call } from '../call.ts'
import { seccompMachines } from '../seccomp.ts'
import { syscallNumber } from '../syscall-numbers.ts'
import { certainAnswer } from './interpret.ts'
import { seccompAnswer } from './rules.ts'

/** System calls that each program lets through, or not, whatever their arguments are. */
const regardless = new WeakMap<Uint8Array, Map<number, boolean>>()

/**
 * Whether a filter is sure to let all of `calls` through on the machine's own architecture. Numbers count as they are; it may
 * not look at what is known only when they are made: addresses, and results of earlier calls.
 */
export function letsThrough(program: Uint8Array, calls: readonly Call[], machine: Architecture): boolean {
  const arch = seccompMachines[machine][0]?.audit as number
  const known = regardless.get(program) ?? new Map<number, boolean>()
  regardless.set(program, known)
  return calls.every(({ name, args }) => {
    const nr = syscallNumber(name, machine)
    const answers = (given?: readonly (bigint | undefined)[]): boolean =>
      certainAnswer(program, { nr, arch }, given) === seccompAnswer.allow
    let always = known.get(nr)
    if (always === undefined) {
      always = answers()
      known.set(nr, always)
    }
    return always || answers(Array.from({ length: 6 }, (_, index) => numberOf(args[index] ?? 0)))
  })
}

/** An argument as the kernel gets it; undefined when that is an address or a result. */
function numberOf(arg: Arg): bigint | undefined {
  return typeof arg === 'number' || typeof arg === 'bigint' ? BigInt.asUintN(64, BigInt(arg)) : undefined
}
