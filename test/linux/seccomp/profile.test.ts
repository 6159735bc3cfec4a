import { describe, expect, it } from 'vitest'
import { InvalidArgumentError } from '../../../src/errors.ts'
import { stringifyJsonInt64 } from '../../../src/internal/json-int64.ts'
import { runFilter } from '../../../src/linux/seccomp/interpret.ts'
import { compileSeccomp, type SeccompArgument, type SeccompProfile } from '../../../src/linux/seccomp.ts'
import {
  allow,
  ENOSYS,
  EPERM,
  errno,
  interesting,
  killProcess,
  number,
  random,
  randomConditions,
  x64,
  x86,
} from './support.ts'

describe('a seccomp profile', () => {
  const one = (profile: Partial<SeccompProfile>, nr: string, ...args: readonly bigint[]): number => {
    const { program } = compileSeccomp({ defaultAction: 'SCMP_ACT_ERRNO', ...profile }, 'x64')
    return runFilter(program, { nr: number('x86_64', nr), arch: x64, args }).answer
  }

  it('answers with every action there is', () => {
    const actions = {
      SCMP_ACT_KILL: 0,
      SCMP_ACT_KILL_THREAD: 0,
      SCMP_ACT_KILL_PROCESS: killProcess,
      SCMP_ACT_TRAP: 0x3_0000,
      SCMP_ACT_NOTIFY: 0x7fc0_0000,
      SCMP_ACT_LOG: 0x7ffc_0000,
      SCMP_ACT_ALLOW: allow,
    }
    for (const [action, answer] of Object.entries(actions)) {
      expect(one({ syscalls: [{ names: ['read'], action }] }, 'read')).toBe(answer)
      expect(one({ defaultAction: action }, 'read')).toBe(answer)
    }
    expect(one({ syscalls: [{ names: ['read'], action: 'SCMP_ACT_TRACE', errnoRet: 7 }] }, 'read')).toBe(0x7ff0_0007)
    expect(one({ syscalls: [{ names: ['read'], action: 'SCMP_ACT_ERRNO', errnoRet: 13 }] }, 'read')).toBe(errno(13))
    expect(one({ defaultErrnoRet: 38 }, 'read')).toBe(ENOSYS)
    expect(one({}, 'read')).toBe(EPERM)
  })

  it('lets a rule without conditions win over those with, and two conditions on one argument stand for two rules', () => {
    const conditional = {
      names: ['read'],
      action: 'SCMP_ACT_ERRNO',
      errnoRet: 5,
      args: [{ index: 0, value: 1, op: 'SCMP_CMP_EQ' }],
    }
    const plain = { names: ['read'], action: 'SCMP_ACT_ALLOW' }
    expect(one({ syscalls: [conditional, plain] }, 'read', 1n)).toBe(allow)
    const either = { ...plain, args: [1, 2].map((value) => ({ index: 0, value, op: 'SCMP_CMP_EQ' })) }
    expect([1n, 2n, 3n].map((value) => one({ syscalls: [either] }, 'read', value))).toEqual([allow, allow, EPERM])
  })

  it('compares all 64 bits, unsigned', () => {
    const value = 0x8000_0001_0000_0002n
    const samples = [
      0n,
      value - 1n,
      value,
      value + 1n,
      0x8000_0001_ffff_ffffn,
      0x8000_0002_0000_0000n,
      2n,
      2n ** 64n - 1n,
    ]
    const operators: Readonly<Record<string, (argument: bigint) => boolean>> = {
      SCMP_CMP_NE: (a) => a !== value,
      SCMP_CMP_LT: (a) => a < value,
      SCMP_CMP_LE: (a) => a <= value,
      SCMP_CMP_EQ: (a) => a === value,
      SCMP_CMP_GE: (a) => a >= value,
      SCMP_CMP_GT: (a) => a > value,
    }
    for (const [op, holds] of Object.entries(operators)) {
      for (const index of [0, 5]) {
        const rule = { names: ['read'], action: 'SCMP_ACT_ALLOW', args: [{ index, value, op }] }
        for (const sample of samples) {
          const args = [0n, 0n, 0n, 0n, 0n, 0n].with(index, sample)
          expect(one({ syscalls: [rule] }, 'read', ...args), `${op} ${sample}`).toBe(holds(sample) ? allow : EPERM)
        }
      }
    }
  })

  it('takes the largest value of JSON for the largest of 64 bits', () => {
    const rule = { names: ['read'], action: 'SCMP_ACT_ALLOW', args: [{ index: 0, value: 2 ** 64, op: 'SCMP_CMP_EQ' }] }
    expect(one({ syscalls: [rule] }, 'read', 2n ** 64n - 1n)).toBe(allow)
  })

  it('refuses i386 through socketcall and ipc what it refuses directly', () => {
    const profile = (action: string, args?: SeccompProfile['syscalls']): SeccompProfile => ({
      defaultAction: action === 'SCMP_ACT_ALLOW' ? 'SCMP_ACT_ERRNO' : 'SCMP_ACT_ALLOW',
      architectures: ['SCMP_ARCH_X86'],
      syscalls: args ?? [{ names: ['socket', 'msgget'], action }],
    })
    const through = (p: SeccompProfile, name: string, first: bigint): number =>
      runFilter(compileSeccomp(p, 'x64').program, { nr: number('x86', name), arch: x86, args: [first] }).answer
    expect(through(profile('SCMP_ACT_ERRNO'), 'socketcall', 1n)).toBe(EPERM)
    expect(through(profile('SCMP_ACT_ERRNO'), 'socketcall', 2n)).toBe(allow)
    expect(through(profile('SCMP_ACT_ERRNO'), 'ipc', 0x1_000dn)).toBe(EPERM)
    expect(through(profile('SCMP_ACT_ALLOW'), 'socketcall', 1n)).toBe(allow)
    const args = [{ index: 0, value: 38, op: 'SCMP_CMP_EQ' }]
    const strict = profile('SCMP_ACT_ERRNO', [{ names: ['socket'], action: 'SCMP_ACT_ERRNO', args }])
    expect(through(strict, 'socketcall', 1n)).toBe(EPERM)
    const lax = profile('SCMP_ACT_ALLOW', [{ names: ['socket'], action: 'SCMP_ACT_ALLOW', args }])
    expect(through(lax, 'socketcall', 1n)).toBe(EPERM)
  })

  it('sets the flags of seccomp(2)', () => {
    const flags = (profile: Partial<SeccompProfile>): number =>
      compileSeccomp({ defaultAction: 'SCMP_ACT_ALLOW', ...profile }, 'x64').flags
    expect(flags({})).toBe(4)
    expect(flags({ flags: [] })).toBe(0)
    expect(flags({ flags: ['SECCOMP_FILTER_FLAG_TSYNC', 'SECCOMP_FILTER_FLAG_LOG'] })).toBe(2)
    const notify = { syscalls: [{ names: ['mkdir'], action: 'SCMP_ACT_NOTIFY' }] }
    expect(flags({ flags: ['SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV'] })).toBe(0)
    expect(flags({ ...notify, flags: ['SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV'] })).toBe(8 | 32)
    expect(compileSeccomp({ defaultAction: 'SCMP_ACT_ALLOW', ...notify }, 'x64').notify).toBe(true)
  })

  it('is refused with what it has wrong', () => {
    const arg = { index: 0, value: 1, op: 'SCMP_CMP_EQ' }
    const broken: readonly Partial<SeccompProfile>[] = [
      { defaultAction: 'SCMP_ACT_DANCE' },
      { defaultErrnoRet: 4096 },
      { flags: ['SECCOMP_FILTER_FLAG_DANCE'] },
      { syscalls: [{ names: ['read'], action: 'SCMP_ACT_ALLOW', args: [{ ...arg, op: 'SCMP_CMP_DANCE' }] }] },
      { syscalls: [{ names: ['read'], action: 'SCMP_ACT_ALLOW', args: [{ ...arg, index: 6 }] }] },
      { syscalls: [{ names: ['read'], action: 'SCMP_ACT_ALLOW', args: [{ ...arg, value: 2n ** 64n }] }] },
      { syscalls: [{ names: ['read'], action: 'SCMP_ACT_ALLOW', args: [{ ...arg, value: -1 }] }] },
      {
        syscalls: Array.from({ length: 3000 }, (_, value) => ({
          names: ['read'],
          action: 'SCMP_ACT_ALLOW',
          args: [{ ...arg, value }],
        })),
      },
    ]
    for (const profile of broken) {
      expect(() => compileSeccomp({ defaultAction: 'SCMP_ACT_ERRNO', ...profile }, 'x64')).toThrow(InvalidArgumentError)
    }
  })
})

describe('many rules for one call', () => {
  /** What a profile says, read from it directly. */
  function decide({ syscalls = [] }: SeccompProfile, name: string, args: readonly bigint[]): number {
    const rules = syscalls.filter((rule) => rule.names.includes(name))
    const plain = rules.find((rule) => rule.args === undefined)
    const rule = plain ?? rules.find((one) => one.args?.every((arg) => holds(arg, args[arg.index] ?? 0n)))
    return rule === undefined ? EPERM : errno(rule.errnoRet ?? 1)
  }

  function holds({ op, value, valueTwo = 0 }: SeccompArgument, argument: bigint): boolean {
    const a = BigInt(value)
    const results: Readonly<Record<string, boolean>> = {
      SCMP_CMP_NE: argument !== a,
      SCMP_CMP_LT: argument < a,
      SCMP_CMP_LE: argument <= a,
      SCMP_CMP_EQ: argument === a,
      SCMP_CMP_GE: argument >= a,
      SCMP_CMP_GT: argument > a,
      SCMP_CMP_MASKED_EQ: (argument & a) === BigInt(valueTwo),
    }
    return results[op] ?? false
  }

  it('are decided as the profile reads, in its order', () => {
    const next = random(3)
    const names = ['read', 'write', 'close', 'openat', 'ioctl']
    for (let round = 0; round < 300; round++) {
      const profile: SeccompProfile = {
        defaultAction: 'SCMP_ACT_ERRNO',
        syscalls: Array.from({ length: 1 + next(20) }, (_, i) => {
          const args = randomConditions(next)
          const rule = { names: [names[next(names.length)] ?? ''], action: 'SCMP_ACT_ERRNO', errnoRet: 2 + i }
          return args.length === 0 && next(4) > 0
            ? { ...rule, names: ['mount'] }
            : args.length === 0
              ? rule
              : { ...rule, args }
        }),
      }
      const { program } = compileSeccomp(profile, 'x64')
      for (let n = 0; n < 60; n++) {
        const name = names[next(names.length)] ?? ''
        const args = [0, 1, 2, 3, 4, 5].map(() => interesting(next))
        const { answer } = runFilter(program, { nr: number('x86_64', name), arch: x64, args })
        const newest = Math.max(...(profile.syscalls ?? []).flatMap((s) => s.names).map((s) => number('x86_64', s)))
        const expected = number('x86_64', name) > newest ? ENOSYS : decide(profile, name, args)
        expect(answer, stringifyJsonInt64([profile, name, args])).toBe(expected)
      }
    }
  })
})
