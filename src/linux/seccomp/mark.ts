import { randomBytes } from 'node:crypto'
import type { Architecture } from '../architecture.ts'
import type { Call } from '../call.ts'
import type { SeccompFilter } from '../seccomp.ts'
import { seccompMachines } from '../seccomp.ts'
import { type SeccompArchitecture, seccompNumbers } from '../seccomp-numbers.ts'
import { BpfWriter, bpfEqual, bpfLoad, bpfReturn, seccompData } from './bpf.ts'
import { certainAnswer } from './interpret.ts'
import { seccompAnswer } from './rules.ts'

/**
 * 64 bits by which a filter knows the calls of ours that come after it was loaded. They stand where the kernel looks at
 * nothing: nobody in the container can read the filter, or guess them.
 */
export type FilterMark = readonly [low: number, high: number]

/** Where the calls bear it: words of struct seccomp_data. */
const bearers: ReadonlyMap<string, readonly [number, number]> = new Map([
  // Of descriptors and flags the kernel looks at the lower halves.
  ['dup3', [seccompData.high(1), seccompData.high(2)]],
  ['sendmsg', [seccompData.high(0), seccompData.high(2)]],
  // The reply of the remote process: without an address it has no length.
  ['sendto', [seccompData.low(5), seccompData.high(5)]],
])

/** A mark that nobody else has. */
export function newMark(): FilterMark {
  const bytes = randomBytes(8)
  return [bytes.readUInt32LE(0), bytes.readUInt32LE(4)]
}

/** A call of dup3 or sendmsg with a mark: the kernel does the same. */
export function bearing(call: Call, mark: FilterMark): Call {
  const places = bearers.get(call.name) as readonly [number, number]
  const args = call.args.map((arg, index) => {
    const at = places.indexOf(seccompData.high(index))
    return at < 0 ? arg : BigInt(arg as number) + (BigInt(mark[at] as number) << 32n)
  })
  return { ...call, args }
}

/** What the reply to a batch has to bear. */
export function replyMarkOf([low, high]: FilterMark): bigint {
  return BigInt(low) + (BigInt(high) << 32n)
}

/**
 * The filter with the calls let through that bear a mark, on the machine's own architecture, where it does not let all
 * of their kind through: those by which its listener is handed over, if it has one, and those by which a failure is told.
 */
export function withMark(filter: SeccompFilter, machine: Architecture): SeccompFilter {
  const [native] = seccompMachines[machine]
  const arch = native?.audit as number
  const numberOf = seccompNumbers(native?.listed[0]?.architecture as SeccompArchitecture)
  const needed = [...bearers]
    .filter(([name]) => filter.notify || name === 'sendto')
    .map(([name, places]) => ({ nr: numberOf(name) as number, places }))
    .filter(({ nr }) => certainAnswer(filter.program, { nr, arch }) !== seccompAnswer.allow)
  if (needed.length === 0) return filter
  const mark = newMark()
  const program = new BpfWriter(filter.program)
  const rules = program.length
  let next = rules
  for (const { nr, places } of needed) {
    let met = program.prepend(bpfReturn, seccompAnswer.allow)
    places.forEach((place, at) => {
      program.branch(bpfEqual, mark[at] as number, met, rules)
      met = program.prepend(bpfLoad, place)
    })
    next = program.branch(bpfEqual, nr, met, next)
  }
  const number = program.prepend(bpfLoad, seccompData.number)
  program.branch(bpfEqual, arch, number, rules)
  program.prepend(bpfLoad, seccompData.architecture)
  return { ...filter, program: program.toBytes(), length: program.length, mark }
}
