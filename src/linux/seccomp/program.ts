import {
  BpfWriter,
  bpfAnd,
  bpfEqual,
  bpfGreater,
  bpfGreaterOrEqual,
  bpfJump,
  bpfLoad,
  bpfReturn,
  seccompData,
} from './bpf.ts'
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
 * search over the number, so that a call costs about ten instructions whatever the profile's length.
 * @param fallback answer where no rule of a decision matches
 * @param foreign answer for an architecture without section
 */
export function writeProgram(sections: readonly Section[], fallback: number, foreign: number): BpfWriter {
  const program = new BpfWriter()
  program.emit(bpfLoad, seccompData.architecture)
  for (const { auditArchitecture, spans } of sections) {
    const check = program.length
    program.emit(bpfEqual, auditArchitecture)
    program.emit(bpfLoad, seccompData.number)
    search(program, spans, 0, spans.length, fallback)
    skip(program, check, false)
  }
  program.emit(bpfReturn, foreign)
  return program
}

/** Makes the comparison at `check` skip all the code behind it, when it holds or when it does not. */
function skip(program: BpfWriter, check: number, when: boolean): void {
  const distance = program.length - check - 1
  if (distance <= 255) {
    program.patch(check, when ? distance : 0, when ? 0 : distance)
    return
  }
  // Too far for 8 bits: step over, or onto, a jump that has 32.
  program.patch(check, when ? 0 : 1, when ? 1 : 0)
  program.insert(check + 1, bpfJump, distance)
}

function search(program: BpfWriter, spans: readonly Span[], from: number, to: number, fallback: number): void {
  const middle = (from + to) >>> 1
  const span = spans[middle]
  if (span === undefined) return
  if (to - from === 1) {
    decide(program, span.decision, fallback)
    return
  }
  const check = program.length
  program.emit(bpfGreaterOrEqual, span.start)
  search(program, spans, from, middle, fallback)
  skip(program, check, true)
  search(program, spans, middle, to, fallback)
}

function decide(program: BpfWriter, decision: Decision, fallback: number): void {
  if (typeof decision === 'number') {
    program.emit(bpfReturn, decision)
    return
  }
  for (const rule of decision) writeRule(program, rule)
  program.emit(bpfReturn, fallback)
}

/** Code that answers when all conditions hold, and otherwise goes on behind its end. */
function writeRule(program: BpfWriter, { conditions, answer }: Rule): void {
  const parts = conditions.map(steps)
  const length = parts.reduce((sum, part) => sum + part.length, 0)
  let at = 0
  for (const part of parts) {
    const end = at + part.length
    for (const { code, k, holds = 'next', fails = 'next' } of part) {
      // A failed rule goes on behind the answer, which stands after the last step.
      const distance = { next: 0, met: end - at - 1, failed: length - at }
      program.emit(code, k, distance[holds], distance[fails])
      at++
    }
  }
  program.emit(bpfReturn, answer)
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
