import { randomBytes } from 'node:crypto'
import type { Architecture } from '../architecture.ts'
import type { Call } from '../call.ts'
import type { SeccompFilter } from '../seccomp.ts'
import { seccompMachines } from '../seccomp.ts'
import { seccompNumbers } from '../seccomp-numbers.ts'
import { BpfWriter, bpfEqual, bpfLoad, bpfReturn, seccompData } from './bpf.ts'
import { seccompAnswer } from './rules.ts'

/**
 * The upper halves of two arguments of which the kernel looks at the lower halves alone: a filter sees them. Nobody in
 * the container can read the filter, or guess 64 bits.
 */
export type FilterMark = readonly [first: number, second: number]

/** The calls that can bear a mark: those that hand over a listener; and in which arguments. */
const bearers: ReadonlyMap<string, readonly [number, number]> = new Map([
  ['dup3', [1, 2]],
  ['sendmsg', [0, 2]],
])

/** A mark that nobody else has. */
export function newMark(): FilterMark {
  const bytes = randomBytes(8)
  return [bytes.readUInt32LE(0), bytes.readUInt32LE(4)]
}

/** The call with a mark: the kernel does the same. */
export function bearing(call: Call, mark: FilterMark): Call {
  const places = bearers.get(call.name) as readonly [number, number]
  const args = call.args.map((arg, index) => {
    const at = places.indexOf(index)
    return at < 0 ? arg : BigInt(arg as number) + (BigInt(mark[at] as number) << 32n)
  })
  return { ...call, args }
}

/** The filter with the calls let through that bear the mark, on the machine's own architecture. */
export function withMark(filter: SeccompFilter, mark: FilterMark, machine: Architecture): SeccompFilter {
  const [native] = seccompMachines[machine]
  const numberOf = seccompNumbers(native?.listed[0]?.architecture as 'x86_64')
  const program = new BpfWriter(filter.program)
  const rules = program.length
  let next = rules
  for (const [name, places] of bearers) {
    let met = program.prepend(bpfReturn, seccompAnswer.allow)
    places.forEach((argument, at) => {
      program.branch(bpfEqual, mark[at] as number, met, rules)
      met = program.prepend(bpfLoad, seccompData.high(argument))
    })
    next = program.branch(bpfEqual, numberOf(name) as number, met, next)
  }
  const number = program.prepend(bpfLoad, seccompData.number)
  program.branch(bpfEqual, native?.audit as number, number, rules)
  program.prepend(bpfLoad, seccompData.architecture)
  return { ...filter, program: program.toBytes(), length: program.length, mark }
}
