import { InvalidArgumentError } from '../errors.ts'
import { stringifyJsonInt64 } from '../internal/json-int64.ts'
import type { Architecture } from './architecture.ts'
import { bpfMaxInstructions } from './seccomp/bpf.ts'
import type { FilterMark } from './seccomp/mark.ts'
import { type Section, type Span, writeProgram } from './seccomp/program.ts'
import { answerOf, architectureRules, type Decision, type SeccompProfile, seccompAnswer } from './seccomp/rules.ts'
import { type SeccompArchitecture, x32Bit } from './seccomp-numbers.ts'

export type { SeccompArgument, SeccompProfile, SeccompSyscall } from './seccomp/rules.ts'

/** A profile compiled for seccomp(2). */
export interface SeccompFilter {
  /** Array of struct sock_filter, 8 bytes each. Shared: not to be written to. */
  readonly program: Uint8Array
  /** Instructions of the program, for struct sock_fprog. */
  readonly length: number
  /** Flags for SECCOMP_SET_MODE_FILTER. With NEW_LISTENER (8) the call returns the listener's descriptor. */
  readonly flags: number
  /** Whether some answer is SCMP_ACT_NOTIFY, so that there has to be a listener. */
  readonly notify: boolean
  /** By which calls get through, whatever the rules say; see {@link withMark}. */
  readonly mark?: FilterMark
}

/**
 * Compiles a seccomp profile. What was compiled before is found again by the profile's content.
 *
 * The filter answers as the one that runc makes with libseccomp:
 * - The native architecture always counts as listed. Of the others those matter that the kernel of the
 *   machine runs (x86 and x32 on x64, arm on arm64); calls of one that is not listed end the process.
 * - System calls newer than the newest one that the profile names fail with ENOSYS, so that libcs fall
 *   back to older ones; unless the default action lets calls through. (On arm the private calls and on
 *   x32 the numbers from 512 on do not count as new: they are old.)
 * - Without `flags` the filter leaves speculative store bypass alone (SPEC_ALLOW).
 * @throws InvalidArgumentError for what a profile can't have, or when the filter is longer than the
 * kernel takes
 */
export function compileSeccomp(profile: SeccompProfile, architecture: Architecture): SeccompFilter {
  const frozen = Object.isFrozen(profile) && Object.isFrozen(profile.syscalls) ? profile : undefined
  const known = frozen === undefined ? undefined : byIdentity.get(frozen)?.[architecture]
  if (known !== undefined) return known
  const key = `${architecture} ${stringifyJsonInt64(profile)}`
  let filter = byContent.get(key)
  if (filter === undefined) {
    filter = compile(profile, architecture)
    const oldest = byContent.size < maxCached ? undefined : byContent.keys().next().value
    if (oldest !== undefined) byContent.delete(oldest)
    byContent.set(key, filter)
  }
  if (frozen !== undefined) byIdentity.set(frozen, { ...byIdentity.get(frozen), [architecture]: filter })
  return filter
}

const byIdentity = new WeakMap<SeccompProfile, Partial<Record<Architecture, SeccompFilter>>>()
const byContent = new Map<string, SeccompFilter>()
/** About 4 KB each, and as much text as the profile has. */
const maxCached = 64

/** An architecture as a profile lists it. */
export interface ListedArchitecture {
  readonly name: string
  readonly architecture: SeccompArchitecture
}

/** What the kernel of a machine runs, by AUDIT_ARCH (include/uapi/linux/audit.h); the native one comes first. */
export const seccompMachines: Readonly<
  Record<Architecture, readonly { readonly audit: number; readonly listed: readonly ListedArchitecture[] }[]>
> = {
  x64: [
    {
      audit: 0xc000_003e,
      listed: [
        { name: 'SCMP_ARCH_X86_64', architecture: 'x86_64' },
        { name: 'SCMP_ARCH_X32', architecture: 'x32' },
      ],
    },
    { audit: 0x4000_0003, listed: [{ name: 'SCMP_ARCH_X86', architecture: 'x86' }] },
  ],
  arm64: [
    { audit: 0xc000_00b7, listed: [{ name: 'SCMP_ARCH_AARCH64', architecture: 'aarch64' }] },
    { audit: 0x4000_0028, listed: [{ name: 'SCMP_ARCH_ARM', architecture: 'arm' }] },
  ],
}

/** Where numbers begin that were given out apart from the common sequence, and so say nothing of what is new. */
const apart: Readonly<Record<SeccompArchitecture, number>> = {
  x86_64: x32Bit,
  x86: 2 ** 32,
  x32: x32Bit + 512,
  aarch64: 2 ** 32,
  arm: 0xf_0000,
}

function compile(profile: SeccompProfile, machine: Architecture): SeccompFilter {
  const fallback = answerOf(profile.defaultAction, profile.defaultErrnoRet)
  const foreign = seccompAnswer.killProcess
  const sections: Section[] = []
  for (const [i, { audit, listed }] of seccompMachines[machine].entries()) {
    const native = i === 0 ? listed[0] : undefined
    const present = listed.filter((one) => one === native || profile.architectures?.includes(one.name))
    if (present.length === 0) continue
    const spans = present.map(({ architecture }) => spansOf(profile, architecture, fallback))
    // Calls of x32 come under the AUDIT_ARCH of x86-64.
    const [own = [], x32 = [{ start: x32Bit, decision: foreign }]] = spans
    const inOwn = own.filter(({ start }) => listed.length === 1 || start < x32Bit)
    sections.push({ auditArchitecture: audit, spans: listed.length === 1 ? own : [...inOwn, ...x32] })
  }
  const program = writeProgram(sections, fallback, foreign)
  if (program.length > bpfMaxInstructions) {
    throw new InvalidArgumentError(
      `the seccomp profile compiles to ${program.length} instructions, and the kernel takes ${bpfMaxInstructions}`,
      { subject: 'seccomp' },
    )
  }
  const notify = [profile.defaultAction, ...(profile.syscalls ?? []).map(({ action }) => action)].includes(
    'SCMP_ACT_NOTIFY',
  )
  return { program: program.toBytes(), length: program.length, flags: flagsOf(profile, notify), notify }
}

const ENOSYS = 38

/** Spans of an architecture; neighbours with one decision are one span. */
function spansOf(profile: SeccompProfile, architecture: SeccompArchitecture, fallback: number): readonly Span[] {
  const from = apart[architecture]
  const { decisions, newest, newestApart } = architectureRules(profile, architecture, from)
  const unknown = isPermissive(fallback) ? fallback : seccompAnswer.errno | ENOSYS
  const spans: Span[] = []
  let next = architecture === 'x32' ? x32Bit : 0
  const cover = (to: number, decision: Decision): void => {
    if (to <= next) return
    if (spans.at(-1)?.decision !== decision) spans.push({ start: next, decision })
    next = to
  }
  const end = 2 ** 32
  for (const number of Uint32Array.from(decisions.keys()).sort()) {
    if (number >= from && next < from) {
      cover(newest + 1, fallback)
      cover(from, newest < 0 ? fallback : unknown)
    }
    cover(number, fallback)
    cover(number + 1, decisions.get(number) ?? fallback)
  }
  cover(newest + 1, fallback)
  if (newestApart >= 0) {
    cover(from, newest < 0 ? fallback : unknown)
    cover(newestApart + 1, fallback)
  }
  cover(end, newest < 0 && newestApart < 0 ? fallback : unknown)
  return spans
}

/** Whether calls get through, or to someone who can tell old from new. */
function isPermissive(answer: number): boolean {
  const action = answer & 0xffff_0000
  return action === seccompAnswer.allow || action === seccompAnswer.log || action === seccompAnswer.trace
}

/** Flags of seccomp(2). TSYNC is left out: the filter is set by a process with one thread. */
export const seccompFlagBits: Readonly<Record<string, number>> = {
  SECCOMP_FILTER_FLAG_TSYNC: 0,
  SECCOMP_FILTER_FLAG_LOG: 2,
  SECCOMP_FILTER_FLAG_SPEC_ALLOW: 4,
  SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: 32,
}
const newListener = 8
const waitKillable = 32

function flagsOf({ flags = ['SECCOMP_FILTER_FLAG_SPEC_ALLOW'] }: SeccompProfile, notify: boolean): number {
  let bits = notify ? newListener : 0
  for (const flag of flags) {
    const bit = seccompFlagBits[flag]
    if (bit === undefined) {
      throw new InvalidArgumentError(`the seccomp profile has the unknown flag ${flag}`, { subject: 'seccomp' })
    }
    // The kernel takes it only together with a listener.
    if (bit !== waitKillable || notify) bits |= bit
  }
  return bits
}
