import { describe, expect, it } from 'vitest'
import type { LinuxDeviceCgroup } from '../../../src/bundle/index.ts'
import { deviceProgram } from '../../../src/runtime/cgroups/device-program.ts'
import { deviceRuleLine, v1DeviceRules } from '../../../src/runtime/cgroups/device-rules.ts'
import { interpret } from './ebpf.ts'

const bits = { m: 1, r: 2, w: 4 } as const

/** What the program answers to `access` to a device. */
function decides(rules: readonly LinuxDeviceCgroup[], type: 'c' | 'b', major: number, minor: number, access: string) {
  const asked = [...access].reduce((all, letter) => all | bits[letter as keyof typeof bits], 0)
  return interpret(deviceProgram(rules), [(asked << 16) | (type === 'b' ? 1 : 2), major, minor]) === 1
}

const denyAll: LinuxDeviceCgroup = { allow: false, access: 'rwm' }

describe('the device program', () => {
  it('allows what a rule allows, and the devices of every container', () => {
    const rules: readonly LinuxDeviceCgroup[] = [
      denyAll,
      { allow: true, type: 'c', major: 10, minor: 229, access: 'rwm' },
    ]
    expect(decides(rules, 'c', 10, 229, 'rw')).toBe(true)
    expect(decides(rules, 'b', 10, 229, 'rw')).toBe(false)
    expect(decides(rules, 'c', 10, 230, 'r')).toBe(false)
    expect(decides(rules, 'c', 1, 3, 'rw')).toBe(true)
    expect(decides(rules, 'c', 136, 77, 'rw')).toBe(true)
    expect(decides(rules, 'b', 8, 0, 'm')).toBe(true)
    expect(decides(rules, 'b', 8, 0, 'r')).toBe(false)
  })

  it('adds up what single rules allow', () => {
    const device = { type: 'b', major: 7, minor: 0 } as const
    const rules = [denyAll, { allow: true, ...device, access: 'r' }, { allow: true, ...device, access: 'w' }]
    expect(decides(rules, 'b', 7, 0, 'rw')).toBe(true)
    expect(decides(rules.slice(0, 2), 'b', 7, 0, 'rw')).toBe(false)
  })

  it('lets the last rule that speaks of an access decide', () => {
    const rules: readonly LinuxDeviceCgroup[] = [
      denyAll,
      { allow: true, type: 'b', access: 'rwm' },
      { allow: false, type: 'b', major: 8, access: 'w' },
    ]
    expect(decides(rules, 'b', 8, 1, 'r')).toBe(true)
    expect(decides(rules, 'b', 8, 1, 'rw')).toBe(false)
    expect(decides(rules, 'b', 9, 1, 'rw')).toBe(true)
  })

  it('takes a list without a word on all as one of what is allowed, and can allow all', () => {
    expect(decides([], 'c', 10, 200, 'r')).toBe(false)
    expect(decides([{ allow: true, type: 'c', major: 10, minor: 200, access: 'r' }], 'c', 10, 200, 'r')).toBe(true)
    expect(decides([denyAll, { allow: true }], 'b', 8, 0, 'rwm')).toBe(true)
    expect(decides([{ allow: true }, { allow: false, type: 'b', major: 8 }], 'b', 8, 0, 'm')).toBe(false)
  })

  it('takes a rule for both kinds with numbers as two, not as one for everything', () => {
    const rules: readonly LinuxDeviceCgroup[] = [denyAll, { allow: true, type: 'a', major: 10, minor: 229 }]
    expect(decides(rules, 'b', 10, 229, 'r')).toBe(true)
    expect(decides(rules, 'c', 10, 228, 'r')).toBe(false)
  })

  it('agrees with the rules read one by one, whatever they are', () => {
    const random = mulberry(20)
    const pick = <T>(of: readonly T[]): T => of[Math.floor(random() * of.length)] as T
    for (let round = 0; round < 300; round++) {
      const rules: readonly LinuxDeviceCgroup[] = Array.from({ length: Math.floor(random() * 12) }, () => ({
        allow: pick([true, false]),
        type: pick(['a', 'b', 'c'] as const),
        major: pick([-1, 1, 4_000_000_000]),
        minor: pick([-1, 0, 3]),
        access: pick(['r', 'w', 'm', 'rw', 'rwm', 'wm']),
      }))
      for (let each = 0; each < 30; each++) {
        const [type, major, minor] = [pick(['b', 'c'] as const), pick([1, 4_000_000_000, 2]), pick([0, 3, 4])]
        const access = pick(['r', 'w', 'm', 'rw', 'rwm'])
        const expected = [...access].every((letter) => allowedByHand(rules, type, major, minor, letter))
        if (decides(rules, type, major, minor, access) === expected) continue
        expect({ rules, type, major, minor, access, allowed: !expected }).toMatchObject({ allowed: expected })
      }
    }
  })
})

describe('the rules of version 1', () => {
  const lines = (rules: readonly LinuxDeviceCgroup[]): readonly string[] =>
    v1DeviceRules(rules).map(({ rule }) => `${rule.allow ? 'allow' : 'deny'} ${deviceRuleLine(rule)}`)

  it('begin with nothing being allowed', () => {
    const rules = lines([{ allow: true, type: 'c', major: 10, minor: 200, access: 'rw' }])
    expect(rules.slice(0, 2)).toEqual(['deny a *:* rwm', 'allow c 10:200 rw'])
    expect(rules).toContain('allow c 1:3 rwm')
  })

  it('never write a rule for everything where one device was meant', () => {
    expect(lines([{ allow: true, major: 10, minor: 200, access: 'rwm' }])).not.toContain('allow a *:* rwm')
  })

  it('refuse a denial that the kernel would take and not follow', () => {
    const rules: readonly LinuxDeviceCgroup[] = [
      denyAll,
      { allow: true, type: 'b', access: 'rwm' },
      { allow: false, type: 'b', major: 8, minor: 0, access: 'w' },
    ]
    expect(() => lines(rules)).toThrow(
      expect.objectContaining({ code: 'ERR_OCI_UNSUPPORTED', subject: '/linux/resources/devices/2' }),
    )
    expect(lines([{ allow: true }, { allow: false, type: 'b', major: 8, minor: 0 }])).toEqual([
      'allow a *:* rwm',
      'deny b 8:0 rwm',
      ...['1:3', '1:5', '1:7', '1:8', '1:9', '5:0', '5:1', '5:2', '136:*'].map((device) => `allow c ${device} rwm`),
    ])
  })
})

/** Whether the last rule that speaks of the access allows it. */
function allowedByHand(
  rules: readonly LinuxDeviceCgroup[],
  type: string,
  major: number,
  minor: number,
  letter: string,
): boolean {
  const isAll = (rule: LinuxDeviceCgroup): boolean =>
    rule.type === 'a' && rule.major === -1 && rule.minor === -1 && rule.access === 'rwm'
  const start = rules.findLastIndex(isAll)
  const isBlocklist = start >= 0 && rules[start]?.allow === true
  // Every container may use 1:3, of the devices that are asked for here, and make nodes where little else is allowed.
  if (type === 'c' && major === 1 && minor === 3) return true
  if (letter === 'm' && !isBlocklist) return true
  const last = rules.findLast(
    (rule) =>
      (rule.type === 'a' || rule.type === type) &&
      (rule.major === -1 || rule.major === major) &&
      (rule.minor === -1 || rule.minor === minor) &&
      rule.access?.includes(letter),
  )
  return last?.allow ?? false
}

function mulberry(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}
