import { BpfWriter, bpfAnd, bpfEqual, bpfGreater, bpfGreaterOrEqual, bpfLoad, bpfReturn, seccompData } from './bpf.ts'
import type { Condition, Decision, Rule } from './rules.ts'

/** A decision that holds from this system-call number up to the next span's. */
export interface Span {
  readonly start: number
  readonly decision: Decision
}

/** What a filter decides for calls of one AUDIT_ARCH; the spans cover all numbers from 0. */
export interface Section {
  readonly auditArchitecture: number
  readonly spans: readonly Span[]
}

/**
 * Writes a filter: it finds the section by comparing the architecture, then the span by binary
 * search over the number, so that a call costs about ten instructions whatever the profile's length. Equal answers
 * stand there once: what the kernel takes to load a filter depends on its length.
 * @param fallback answer where no rule of a decision matches
 * @param foreign answer for an architecture without section
 */
export function writeProgram(sections: readonly Section[], fallback: number, foreign: number): BpfWriter {
  const program = new BpfWriter()
  let next = program.prepend(bpfReturn, foreign)
  for (const { auditArchitecture, spans } of sections.toReversed()) {
    const answers = new Map<number, number>()
    const first = search(program, spans, 0, spans.length, fallback, answers)
    if (first !== program.length) program.jump(first)
    const entry = program.prepend(bpfLoad, seccompData.number)
    next = program.branch(bpfEqual, auditArchitecture, entry, next)
  }
  program.prepend(bpfLoad, seccompData.architecture)
  return program
}

/** @param answers where each answer stands already. @returns where to go on for the spans. */
function search(
  program: BpfWriter,
  spans: readonly Span[],
  from: number,
  to: number,
  fallback: number,
  answers: Map<number, number>,
): number {
  const middle = (from + to) >>> 1
  const span = spans[middle]
  if (span === undefined) return program.prepend(bpfReturn, fallback)
  if (to - from === 1) return decide(program, span.decision, fallback, answers)
  const above = search(program, spans, middle, to, fallback, answers)
  const below = search(program, spans, from, middle, fallback, answers)
  return program.branch(bpfGreaterOrEqual, span.start, above, below)
}

function decide(program: BpfWriter, decision: Decision, fallback: number, answers: Map<number, number>): number {
  if (typeof decision === 'number') {
    const known = answers.get(decision)
    if (known !== undefined && program.isNear(known)) return known
    const place = program.prepend(bpfReturn, decision)
    answers.set(decision, place)
    return place
  }
  program.prepend(bpfReturn, fallback)
  for (const rule of decision.toReversed()) writeRule(program, rule)
  return program.length
}

/** Code that answers when all conditions hold, and otherwise goes on behind its end. */
function writeRule(program: BpfWriter, { conditions, answer }: Rule): void {
  const failed = program.length
  let met = program.prepend(bpfReturn, answer)
  for (const condition of conditions.toReversed()) {
    const places = { met, failed }
    for (const { code, k, holds = 'next', fails = 'next' } of steps(condition).toReversed()) {
      const next = program.length
      if (holds === 'next' && fails === 'next') program.prepend(code, k)
      else {
        program.branch(code, k, holds === 'next' ? next : places[holds], fails === 'next' ? next : places[fails])
      }
    }
    met = program.length
  }
}

/** Where a step goes: to the one behind it, to the next condition, or to the end of the rule. */
type Target = 'next' | 'met' | 'failed'

interface Step {
  readonly code: number
  readonly k: number
  readonly holds?: Target
  readonly fails?: Target
}

/** A 64-bit comparison by halves: the lower one counts when the upper ones are equal. */
function steps({ index, op, value, mask, bits }: Condition): readonly Step[] {
  const low = { code: bpfLoad, k: seccompData.low(index) }
  const [valueLow, valueHigh] = [half(value, 0n), half(value, 32n)]
  const [maskLow, maskHigh] = [half(mask, 0n), half(mask, 32n)]
  const upper = (...compare: readonly Step[]): readonly Step[] =>
    bits === 32 ? [] : [{ code: bpfLoad, k: seccompData.high(index) }, ...compare]
  const above = (holds: Target): Step => ({ code: bpfGreater, k: valueHigh, holds })
  const equal = (fails: Target): Step => ({ code: bpfEqual, k: valueHigh, fails })
  const last = (code: number, holds: Target, fails: Target): readonly Step[] => [
    low,
    { code, k: valueLow, holds, fails },
  ]
  switch (op) {
    case 'EQ':
      return [...upper(equal('failed')), ...last(bpfEqual, 'met', 'failed')]
    case 'NE':
      return [...upper(equal('met')), ...last(bpfEqual, 'failed', 'met')]
    case 'GT':
      return [...upper(above('met'), equal('failed')), ...last(bpfGreater, 'met', 'failed')]
    case 'GE':
      return [...upper(above('met'), equal('failed')), ...last(bpfGreaterOrEqual, 'met', 'failed')]
    case 'LT':
      return [...upper(above('failed'), equal('met')), ...last(bpfGreaterOrEqual, 'failed', 'met')]
    case 'LE':
      return [...upper(above('failed'), equal('met')), ...last(bpfGreater, 'failed', 'met')]
    case 'MASKED_EQ':
      return [
        ...(maskHigh === 0 && valueHigh === 0 ? [] : upper({ code: bpfAnd, k: maskHigh }, equal('failed'))),
        low,
        { code: bpfAnd, k: maskLow },
        { code: bpfEqual, k: valueLow, holds: 'met', fails: 'failed' },
      ]
  }
}

function half(value: bigint, shift: bigint): number {
  return Number((value >> shift) & 0xffff_ffffn)
}
