import type { LinuxDeviceCgroup } from '../../bundle/spec-resources.ts'
import { type EbpfInstruction, ebpf, encodeEbpf } from '../../linux/ebpf.ts'
import { allAccess, type DeviceRule, deviceRules } from './device-rules.ts'

/** Offsets in struct bpf_cgroup_dev_ctx; the first word has the kind below and the access above bit 16. */
const context = { access: 0, major: 4, minor: 8 } as const
const kinds = { b: 1, c: 2 } as const

const result = 0
const argument = 1
const kind = 2
const access = 3
const major = 4
const minor = 5

/**
 * The program that decides on devices for cgroup version 2, which has no files for them
 * (Documentation/admin-guide/cgroup-v2.rst, "Device controller"). It looks at the rules from the last to the
 * first. What a rule allows is struck off what was asked for; a rule that forbids something of the rest
 * decides, as does nothing being left.
 */
export function deviceProgram(rules: readonly LinuxDeviceCgroup[]): Buffer {
  const [first, ...others] = deviceRules(rules).map(({ rule }) => rule)
  return encodeEbpf([
    { code: ebpf.load32, to: kind, from: argument, offset: context.access },
    { code: ebpf.load32, to: access, from: argument, offset: context.access },
    { code: ebpf.and, to: kind, immediate: 0xffff },
    { code: ebpf.shiftRight, to: access, immediate: 16 },
    { code: ebpf.load32, to: major, from: argument, offset: context.major },
    { code: ebpf.load32, to: minor, from: argument, offset: context.minor },
    ...others.reverse().flatMap(ruleCode),
    ...answer(first?.allow === true),
  ])
}

function answer(allowed: boolean): readonly EbpfInstruction[] {
  return [{ code: ebpf.move, to: result, immediate: Number(allowed) }, { code: ebpf.exit }]
}

function ruleCode(rule: DeviceRule): readonly EbpfInstruction[] {
  const decision = rule.allow ? allowing(rule.access) : forbidding(rule.access)
  const wanted: readonly (readonly [register: number, value: number | undefined])[] = [
    [kind, rule.type === 'a' ? undefined : kinds[rule.type]],
    [major, rule.major],
    [minor, rule.minor],
  ]
  const checks = wanted.filter((each): each is readonly [number, number] => each[1] !== undefined)
  // Each check that fails goes to the rule behind this one.
  const skips = checks.map(([to, immediate], index) => {
    const offset = checks.length - index - 1 + decision.length
    return { code: ebpf.jumpUnlessEqual, to, offset, immediate }
  })
  return [...skips, ...decision]
}

function allowing(granted: number): readonly EbpfInstruction[] {
  if (granted === allAccess) return answer(true)
  return [
    { code: ebpf.and, to: access, immediate: ~granted },
    { code: ebpf.jumpUnlessEqual, to: access, offset: 2, immediate: 0 },
    ...answer(true),
  ]
}

function forbidding(denied: number): readonly EbpfInstruction[] {
  if (denied === allAccess) return answer(false)
  return [
    { code: ebpf.jumpIfSet, to: access, offset: 1, immediate: denied },
    { code: ebpf.jump, offset: 2 },
    ...answer(false),
  ]
}
