import type { LinuxDeviceCgroup } from '../../bundle/spec-resources.ts'
import { InvalidArgumentError, UnsupportedError } from '../../errors.ts'
import { resourcesPointer } from './setting.ts'

/** A rule in the one form that both versions of cgroups take. */
export interface DeviceRule {
  readonly allow: boolean
  /** `a` only for all devices and every access. */
  readonly type: 'a' | 'c' | 'b'
  /** All when undefined. */
  readonly major: number | undefined
  readonly minor: number | undefined
  /** Bits of {@link deviceAccess}, at least one. */
  readonly access: number
}

/** What can be done with a device (include/uapi/linux/bpf.h, BPF_DEVCG_ACC_…). */
export const deviceAccess = { m: 1, r: 2, w: 4 } as const
/** Every access. */
export const allAccess = 7

const everything = { type: 'a', major: undefined, minor: undefined, access: allAccess } as const

/**
 * Devices that the spec promises to every container (config-linux.md, "Default Devices"), pseudo
 * terminals, and making any node, which opens none.
 */
const alwaysAllowed: readonly DeviceRule[] = [
  ...(['c', 'b'] as const).map((type) => rule(type, undefined, undefined, deviceAccess.m)),
  ...[3, 5, 7, 8, 9].map((minor) => rule('c', 1, minor, allAccess)),
  ...[0, 1, 2].map((minor) => rule('c', 5, minor, allAccess)),
  rule('c', 136, undefined, allAccess),
]

function rule(type: 'c' | 'b', major: number | undefined, minor: number | undefined, access: number): DeviceRule {
  return { allow: true, type, major, minor, access }
}

/** A rule and where it comes from: an index of the list in config.json; -1 when nobody asked for it. */
export interface PlacedRule {
  readonly rule: DeviceRule
  readonly index: number
}

/**
 * The rules of config.json in order, each access decided by the last rule that speaks of it. The list says
 * what is allowed (config-linux.md, "Allowed Device list"): before the first rule nothing is, behind the
 * last one come the devices that every container has.
 */
export function deviceRules(rules: readonly LinuxDeviceCgroup[]): readonly PlacedRule[] {
  const placed = rules.flatMap((each, index) => normalise(each, index).map((rule) => ({ rule, index })))
  // What comes before a rule for everything decides nothing.
  const last = placed.findLastIndex(({ rule: { type } }) => type === 'a')
  const base = last < 0 ? { rule: { ...everything, allow: false }, index: -1 } : placed[last]
  const all = [base as PlacedRule, ...placed.slice(last + 1)]
  const lastDenial = all.findLastIndex(({ rule }) => !rule.allow)
  const granted = new Set(all.slice(lastDenial + 1).map(({ rule }) => deviceRuleLine(rule)))
  const missing = alwaysAllowed.filter((each) => !granted.has(deviceRuleLine(each)))
  // Where all is allowed but some, making nodes is up to what was asked for.
  const needed =
    base?.rule.allow === true ? missing.filter((each) => lastDenial > 0 && each.major !== undefined) : missing
  return [...all, ...needed.map((each) => ({ rule: each, index: -1 }))]
}

/** `a` speaks of both kinds; with numbers, or for some accesses, that is two rules. */
function normalise(each: LinuxDeviceCgroup, index: number): readonly DeviceRule[] {
  const { allow, type = 'a' } = each
  const access = accessOf(each.access ?? 'rwm', index)
  const [major, minor] = [numberOf(each.major), numberOf(each.minor)]
  if (type === 'a' && major === undefined && minor === undefined && access === allAccess) {
    return [{ ...everything, allow }]
  }
  return (type === 'a' ? (['c', 'b'] as const) : [type]).map((kind) => ({ allow, type: kind, major, minor, access }))
}

function numberOf(value: number | undefined): number | undefined {
  return value === undefined || value < 0 ? undefined : value
}

function accessOf(letters: string, index: number): number {
  let access = 0
  for (const letter of letters) {
    const bit = deviceAccess[letter as keyof typeof deviceAccess] as number | undefined
    if (bit === undefined) break
    access |= bit
  }
  if (!/^[rwm]+$/.test(letters)) {
    const at = `${resourcesPointer}/devices/${index}/access`
    throw new InvalidArgumentError(`${at} must be letters of "rwm", not ${JSON.stringify(letters)}`)
  }
  return access
}

/** The rules for the device controller of version 1, each of them a write. */
export function v1DeviceRules(rules: readonly LinuxDeviceCgroup[]): readonly PlacedRule[] {
  const all = deviceRules(rules)
  const allowedByDefault = all[0]?.rule.allow === true
  all.forEach(({ rule, index }, at) => {
    // It keeps exceptions from one default. Taking back a part of one changes nothing, and says so nowhere.
    if (rule.allow !== allowedByDefault || at === 0) return
    const partly = all.slice(1, at).some((earlier) => earlier.rule.allow !== rule.allow && cuts(rule, earlier.rule))
    if (!partly) return
    throw new UnsupportedError(
      `${resourcesPointer}/devices/${index}`,
      `cgroup version 1 can't take ${deviceRuleLine(rule)} out of a wider rule before it`,
      { hint: 'Write rules that do not overlap, or use a host with cgroup version 2.' },
    )
  })
  return all
}

/** Whether `a` speaks of some, but not just the devices of `b`. */
function cuts(a: DeviceRule, b: DeviceRule): boolean {
  const meets = (x: number | undefined, y: number | undefined): boolean => x === undefined || y === undefined || x === y
  if (a.type !== b.type || !meets(a.major, b.major) || !meets(a.minor, b.minor)) return false
  return (a.access & b.access) !== 0 && (a.major !== b.major || a.minor !== b.minor)
}

/** A rule as the files of version 1 have it. */
export function deviceRuleLine({ type, major, minor, access }: DeviceRule): string {
  if (type === 'a') return 'a *:* rwm'
  const letters = (['r', 'w', 'm'] as const).filter((letter) => (access & deviceAccess[letter]) !== 0)
  return `${type} ${major ?? '*'}:${minor ?? '*'} ${letters.join('')}`
}
