import type { LinuxSeccomp } from '../../bundle/spec-seccomp.ts'
import { ConflictError } from '../../errors.ts'
import { stringifyJsonInt64 } from '../../internal/json-int64.ts'
import type { SeccompArchitecture } from '../syscalls/types.ts'
import { learnedProfile } from './profile.ts'

/** How often a container made a system call. */
export interface LearnedCall {
  /** As the kernel names it, for example `openat`. */
  readonly name: string
  readonly architecture: SeccompArchitecture
  /** How often it was made, refusals included. */
  readonly count: number
  /** How often the container's own profile refused it. */
  readonly refused: number
}

/** What containers used; see {@link Learning}. */
export interface LearnReport {
  /**
   * A profile that lets the same be done again, and no call that was not made: for `linux.seccomp`, or `seccomp` of `run`.
   * A call is let through with the arguments that the own profile allows; where that refuses only some, with all.
   */
  readonly seccomp: LinuxSeccomp
  /**
   * The capabilities, by name, that a check of the kernel found, and the container was given: for the sets of
   * `process.capabilities`, or `capabilities.add` of `run`. Undefined when that can't be told.
   */
  readonly capabilities: readonly string[] | undefined
  /** Why `capabilities` is undefined. */
  readonly capabilitiesUnknown: string | undefined
  /** The system calls by name and architecture. */
  readonly calls: readonly LearnedCall[]
}

/** What a call came to, as {@link Learning} keeps it. */
export interface CountedCall extends LearnedCall {
  count: number
  refused: number
  /** Of the last refusal; 0 before. */
  errno: number
}

/** What is known of capabilities of one container. */
export interface CapabilityWatch {
  /** Takes in what has happened until now. */
  look(): void
  readonly used: ReadonlySet<string>
  /** Why it knows nothing, or not all. */
  readonly unknown: string | undefined
}

/**
 * Records what containers use: give it to them as `learn`, one after the other or at the same time, and ask for the
 * report when they have done all that they are to do.
 *
 * ```ts
 * const learning = new Learning()
 * await using box = await run('app:1', { learn: learning })
 * // … have it do all that it does …
 * const { seccomp, capabilities } = learning.report()
 * ```
 */
export class Learning {
  private readonly counted = new Map<string, CountedCall>()
  private readonly needed = new Set<string>()
  private readonly watches = new Set<CapabilityWatch>()
  private own: { readonly profile: LinuxSeccomp | undefined; readonly text: string } | undefined

  /** What was used up to now. */
  report(): LearnReport {
    const calls = [...this.counted.values()].sort(byName)
    const capabilities = new Set<string>()
    let unknown = this.watches.size === 0 ? 'no program was started' : undefined
    for (const watch of this.watches) {
      watch.look()
      for (const name of watch.used) capabilities.add(name)
      unknown ??= watch.unknown
    }
    return {
      seccomp: learnedProfile(this.own?.profile, calls, this.needed),
      capabilities: unknown === undefined ? [...capabilities].sort() : undefined,
      capabilitiesUnknown: unknown,
      calls: calls.map(({ errno: _, ...call }) => call),
    }
  }

  /**
   * Begins with one more container. @param own its profile
   * @throws ConflictError when it has another profile than those before.
   * @internal
   */
  begin(id: string, own: LinuxSeccomp | undefined): void {
    const text = own === undefined ? '' : stringifyJsonInt64(own)
    this.own ??= { profile: own, text }
    if (this.own.text === text) return
    const hint = 'Make one Learning for each profile.'
    throw new ConflictError(id, `container ${id} has another seccomp profile than those learned from before`, { hint })
  }

  /** @internal */
  watch(watch: CapabilityWatch): void {
    this.watches.add(watch)
  }

  /** The start of a program needs these calls. @internal */
  need(names: Iterable<string>): void {
    for (const name of names) this.needed.add(name)
  }

  /** @param refusal errno with which the call was refused; undefined for one that was made. @internal */
  count(name: string, architecture: SeccompArchitecture, refusal: number | undefined): void {
    const key = `${name} ${architecture}`
    let call = this.counted.get(key)
    if (call === undefined) {
      call = { name, architecture, count: 0, refused: 0, errno: 0 }
      this.counted.set(key, call)
    }
    call.count++
    if (refusal === undefined) return
    call.refused++
    call.errno = refusal
  }
}

function byName(a: LearnedCall, b: LearnedCall): number {
  const [first, second] = [`${a.name} ${a.architecture}`, `${b.name} ${b.architecture}`]
  return first < second ? -1 : first > second ? 1 : 0
}
