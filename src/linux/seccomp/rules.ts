import { InvalidArgumentError } from '../../errors.ts'
import { quote } from '../../internal/text.ts'
import { type SeccompArchitecture, seccompNumbers } from '../seccomp-numbers.ts'
import { multiplexed } from './multiplexed.ts'

/** A profile as config.json has it (runtime-spec, config-linux.md, "Seccomp"); bundle's LinuxSeccomp is one. */
export interface SeccompProfile {
  readonly defaultAction: string
  readonly defaultErrnoRet?: number
  readonly architectures?: readonly string[]
  readonly flags?: readonly string[]
  readonly syscalls?: readonly SeccompSyscall[]
}

/** A rule of a profile. */
export interface SeccompSyscall {
  readonly names: readonly string[]
  readonly action: string
  readonly errnoRet?: number
  readonly args?: readonly SeccompArgument[]
}

/** A condition of a rule. */
export interface SeccompArgument {
  readonly index: number
  readonly value: number | bigint
  readonly valueTwo?: number | bigint
  readonly op: string
}

/** A comparison of one argument, unsigned. */
export interface Condition {
  readonly index: number
  /** Width of the argument: with 32, the upper half is not looked at. */
  readonly bits: 32 | 64
  readonly op: 'NE' | 'LT' | 'LE' | 'EQ' | 'GE' | 'GT' | 'MASKED_EQ'
  readonly value: bigint
  /** Bits that count; only with MASKED_EQ. */
  readonly mask: bigint
}

/** What a filter answers when all conditions hold. */
export interface Rule {
  readonly conditions: readonly Condition[]
  readonly answer: number
}

/** What a filter answers to a call: always the same, or what the first matching rule says, else the default. */
export type Decision = number | readonly Rule[]

/** Decisions by system-call number, and what else the profile says of an architecture. */
export interface ArchitectureRules {
  readonly decisions: ReadonlyMap<number, Decision>
  /** The largest number that the profile names below `apart`, with whatever answer; -1 for none. */
  readonly newest: number
  /** The same from `apart` on. */
  readonly newestApart: number
}

/** Answers of a filter (include/uapi/linux/seccomp.h). */
export const seccompAnswer = {
  killProcess: 0x8000_0000,
  killThread: 0,
  trap: 0x0003_0000,
  errno: 0x0005_0000,
  notify: 0x7fc0_0000,
  trace: 0x7ff0_0000,
  log: 0x7ffc_0000,
  allow: 0x7fff_0000,
} as const

/** Answers by the actions of a profile. */
export const seccompActions: Readonly<Record<string, number>> = {
  SCMP_ACT_KILL: seccompAnswer.killThread,
  SCMP_ACT_KILL_THREAD: seccompAnswer.killThread,
  SCMP_ACT_KILL_PROCESS: seccompAnswer.killProcess,
  SCMP_ACT_TRAP: seccompAnswer.trap,
  SCMP_ACT_ERRNO: seccompAnswer.errno,
  SCMP_ACT_NOTIFY: seccompAnswer.notify,
  SCMP_ACT_TRACE: seccompAnswer.trace,
  SCMP_ACT_LOG: seccompAnswer.log,
  SCMP_ACT_ALLOW: seccompAnswer.allow,
}

const EPERM = 1

/** The answer that an action of a profile stands for. @throws InvalidArgumentError */
export function answerOf(action: string, errno: number = EPERM): number {
  const answer = seccompActions[action]
  if (answer === undefined) throw fault(`has the unknown action ${quote(action)}`)
  if (answer !== seccompAnswer.errno && answer !== seccompAnswer.trace) return answer
  if (!Number.isInteger(errno) || errno < 0 || errno > 4095) throw fault(`has ${errno} for an errno`)
  return answer | errno
}

/**
 * What a profile decides for one architecture. As with libseccomp under runc: a rule with the default
 * action is passed over, and so are names that the architecture does not have; a rule without
 * conditions wins over all with, and the first of those over the others; conditions on different
 * arguments have to hold together, but two on the same argument stand for two rules.
 *
 * Rules with conditions and different actions are tried in the profile's order.
 * @param apart where numbers begin that were given out apart from the common sequence
 * @throws InvalidArgumentError
 */
export function architectureRules(
  profile: SeccompProfile,
  architecture: SeccompArchitecture,
  apart: number,
): ArchitectureRules {
  const numberOf = seccompNumbers(architecture)
  const fallback = answerOf(profile.defaultAction, profile.defaultErrnoRet)
  const decisions = new Map<number, number | Rule[]>()
  let [newest, newestApart] = [-1, -1]
  const add = (number: number, conditions: readonly Condition[], answer: number): void => {
    if (number >= apart) newestApart = Math.max(newestApart, number)
    else newest = Math.max(newest, number)
    if (answer === fallback) return
    const decided = decisions.get(number)
    if (typeof decided === 'number') return
    if (conditions.length === 0) decisions.set(number, answer)
    else if (decided === undefined) decisions.set(number, [{ conditions, answer }])
    else decided.push({ conditions, answer })
  }
  for (const syscall of profile.syscalls ?? []) {
    const answer = answerOf(syscall.action, syscall.errnoRet)
    const alternatives = alternativesOf(syscall.args ?? [], argumentBits(architecture))
    for (const name of syscall.names) {
      const number = numberOf(name)
      if (number !== undefined) for (const conditions of alternatives) add(number, conditions, answer)
      const through = architecture === 'x86' ? multiplexed(name) : undefined
      // Arguments can't be seen there: a rule with conditions counts without them when it is stricter than
      // the default, and not at all when it is laxer.
      if (through !== undefined && (alternatives === always || strictness(answer) > strictness(fallback))) {
        add(through.number, [through.condition], answer)
      }
    }
  }
  return { decisions, newest, newestApart }
}

/** The kernel's order of answers, from ALLOW up to KILL_PROCESS. */
function strictness(answer: number): number {
  return -((answer & 0xffff_0000) | 0)
}

function argumentBits(architecture: SeccompArchitecture): 32 | 64 {
  return architecture === 'x86_64' || architecture === 'aarch64' ? 64 : 32
}

const always: readonly (readonly Condition[])[] = [[]]

/** Sets of conditions, one of which has to hold. */
function alternativesOf(args: readonly SeccompArgument[], bits: 32 | 64): readonly (readonly Condition[])[] {
  if (args.length === 0) return always
  const conditions = args.map((arg) => conditionOf(arg, bits))
  const indexes = new Set(conditions.map(({ index }) => index))
  return indexes.size === conditions.length ? [conditions] : conditions.map((condition) => [condition])
}

const all32 = 0xffff_ffffn
const all64 = 0xffff_ffff_ffff_ffffn

function conditionOf({ index, value, valueTwo = 0, op }: SeccompArgument, bits: 32 | 64): Condition {
  if (!Number.isInteger(index) || index < 0 || index > 5) throw fault(`has ${index} for the index of an argument`)
  const width = bits === 32 ? all32 : all64
  const [first, second] = [unsigned(value) & width, unsigned(valueTwo) & width]
  switch (op) {
    case 'SCMP_CMP_MASKED_EQ':
      return { index, bits, op: 'MASKED_EQ', value: second, mask: first }
    case 'SCMP_CMP_NE':
    case 'SCMP_CMP_LT':
    case 'SCMP_CMP_LE':
    case 'SCMP_CMP_EQ':
    case 'SCMP_CMP_GE':
    case 'SCMP_CMP_GT':
      return { index, bits, op: op.slice('SCMP_CMP_'.length) as Condition['op'], value: first, mask: width }
    default:
      throw fault(`has the unknown operator ${quote(op)}`)
  }
}

function unsigned(value: number | bigint): bigint {
  // JSON.parse makes 2^64 of 2^64 - 1.
  if (value === 2 ** 64) return all64
  if ((typeof value === 'number' && !Number.isInteger(value)) || value < 0 || value > all64) {
    throw fault(`has ${value} for the value of an argument`)
  }
  return BigInt(value)
}

function fault(what: string): InvalidArgumentError {
  return new InvalidArgumentError(`the seccomp profile ${what}`, { subject: 'seccomp' })
}
