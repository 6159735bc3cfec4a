import type { LinuxSeccomp, LinuxSyscall, SeccompAction } from '../../bundle/spec-seccomp.ts'
import { stringifyJsonInt64 } from '../../internal/json-int64.ts'
import type { SeccompArchitecture } from '../syscalls/types.ts'
import type { CountedCall } from './learning.ts'

/** As profiles name them. */
const architectures: Readonly<Record<SeccompArchitecture, string>> = {
  x86_64: 'SCMP_ARCH_X86_64',
  x86: 'SCMP_ARCH_X86',
  x32: 'SCMP_ARCH_X32',
  aarch64: 'SCMP_ARCH_AARCH64',
  arm: 'SCMP_ARCH_ARM',
}

/**
 * What every program may come to need, seen or not: its start and its end, the way back from a signal, and what is a
 * system call on some machines and none on others (vdso(7)).
 */
const always = [
  ...['execve', 'exit', 'exit_group', 'restart_syscall', 'rt_sigreturn', 'sigreturn'],
  ...['clock_getres', 'clock_gettime', 'getcpu', 'gettimeofday', 'time'],
]

type Rule = Omit<LinuxSyscall, 'names'>
const allowed: Rule = { action: 'SCMP_ACT_ALLOW' }

/**
 * The smallest profile under which `calls` come to the same again: of `own`, under which they were made, it has the rules
 * that are about them.
 * @param needed calls that the start of a program needs
 */
export function learnedProfile(
  own: LinuxSeccomp | undefined,
  calls: readonly CountedCall[],
  needed: Iterable<string>,
): LinuxSeccomp {
  const rules = new Map<string, { readonly rule: Rule; readonly names: Set<string> }>()
  const add = (name: string, rule: Rule): void => {
    const key = stringifyJsonInt64(rule)
    const known = rules.get(key) ?? { rule, names: new Set() }
    rules.set(key, known)
    known.names.add(name)
  }
  const used = new Map(calls.map((call) => [call.name, call]))
  for (const name of [...always, ...needed]) if (!used.has(name)) add(name, allowed)
  for (const [name, { errno, refused, count }] of used) {
    const refusal = refused === count ? errno : undefined
    for (const rule of rulesOf(own, name, refusal)) add(name, rule)
  }
  const errnoRet = own?.defaultAction === 'SCMP_ACT_ERRNO' ? own.defaultErrnoRet : undefined
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    ...(errnoRet === undefined ? {} : { defaultErrnoRet: errnoRet }),
    architectures: [...new Set(calls.map(({ architecture }) => architectures[architecture]))].sort(),
    ...(own?.flags === undefined ? {} : { flags: own.flags }),
    syscalls: inOrder(own, [...rules.values()]).map(({ rule, names }) => ({ names: [...names].sort(), ...rule })),
  }
}

/** What `own` says of a call that was made. @param refusal errno of one that was always refused */
function rulesOf(own: LinuxSeccomp | undefined, name: string, refusal: number | undefined): readonly Rule[] {
  const { defaultAction = 'SCMP_ACT_ALLOW', syscalls = [] } = own ?? {}
  const about = syscalls.filter(({ names, action }) => names.includes(name) && action !== defaultAction)
  const always = about.find(({ args = [] }) => args.length === 0)
  if (always !== undefined) return [isPermissive(always.action) ? allowed : ruleOf(always)]
  // That a call is refused under conditions can't be said where refusing is the default.
  if (isPermissive(defaultAction)) return [allowed]
  if (about.length > 0) return about.map(ruleOf)
  return [{ action: 'SCMP_ACT_ERRNO', errnoRet: refusal ?? 1 }]
}

function ruleOf({ names: _, ...rule }: LinuxSyscall): Rule {
  return rule
}

function isPermissive(action: SeccompAction): boolean {
  return action === 'SCMP_ACT_ALLOW' || action === 'SCMP_ACT_LOG'
}

/** Rules with conditions are tried in the order of the profile. */
function inOrder<T extends { readonly rule: Rule }>(own: LinuxSeccomp | undefined, rules: readonly T[]): readonly T[] {
  const places = (own?.syscalls ?? []).map((rule) => stringifyJsonInt64(ruleOf(rule)))
  const placeOf = ({ rule }: T): number => places.indexOf(stringifyJsonInt64(rule))
  return rules.toSorted((a, b) => placeOf(a) - placeOf(b))
}
