import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { defaultCapabilities, defaultSeccomp } from '../../src/bundle/index.ts'
import { InvalidArgumentError } from '../../src/errors.ts'
import { stringifyJsonInt64 } from '../../src/internal/json-int64.ts'
import { compileSeccomp, type SeccompArgument, type SeccompProfile } from '../../src/linux/seccomp.ts'
import { type SeccompArchitecture, seccompNumbers, x32Bit } from '../../src/linux/seccomp-numbers.ts'
import { syscallNumber } from '../../src/linux/syscall-numbers.ts'
import { runFilter } from './bpf-interpreter.ts'
import { compileWithLibseccomp, hasLibseccomp, resolve, tokens } from './libseccomp.ts'

const x64 = tokens.SCMP_ARCH_X86_64
const x86 = tokens.SCMP_ARCH_X86
const arm64 = tokens.SCMP_ARCH_AARCH64
const arm = tokens.SCMP_ARCH_ARM

const allow = 0x7fff_0000
const killProcess = 0x8000_0000
const errno = (number: number): number => 0x5_0000 | number
const [EPERM, ENOSYS] = [errno(1), errno(38)]

const dockerX64 = defaultSeccomp({ architecture: 'amd64', capabilities: defaultCapabilities })
const dockerArm64 = defaultSeccomp({ architecture: 'arm64', capabilities: defaultCapabilities })

function number(architecture: SeccompArchitecture, name: string): number {
  const found = seccompNumbers(architecture)(name)
  if (found === undefined) throw new Error(`${architecture} has no ${name}`)
  return found
}

describe("Docker's default profile, compiled", () => {
  const { program } = compileSeccomp(dockerX64, 'x64')
  const ask = (name: string, ...args: readonly bigint[]): number =>
    runFilter(program, { nr: number('x86_64', name), arch: x64, args }).answer

  it('allows what programs need and refuses what reaches the kernel', () => {
    for (const name of ['read', 'execve', 'openat', 'futex', 'chroot', 'ptrace', 'arch_prctl', 'uretprobe', 'rseq']) {
      expect(ask(name), name).toBe(allow)
    }
    for (const name of ['mount', 'unshare', 'setns', 'bpf', 'kexec_load', 'add_key', 'init_module', 'io_uring_setup']) {
      expect(ask(name), name).toBe(EPERM)
    }
  })

  it('lets a program fork, but not into namespaces, and makes clone3 look absent', () => {
    expect(ask('clone', 0x1200011n)).toBe(allow)
    for (const flag of [0x20000n, 0x2000000n, 0x4000000n, 0x8000000n, 0x10000000n, 0x20000000n, 0x40000000n]) {
      expect(ask('clone', 0x11n | flag)).toBe(EPERM)
    }
    expect(ask('clone3')).toBe(ENOSYS)
  })

  it('keeps containers off AF_ALG and AF_VSOCK, also with junk in the upper half of the argument', () => {
    for (const family of [1n, 2n, 10n, 16n, 17n, 37n, 39n, 41n]) expect(ask('socket', family)).toBe(allow)
    for (const family of [38n, 40n]) expect(ask('socket', family)).toBe(EPERM)
  })

  it('knows the execution domains that are harmless', () => {
    for (const domain of [0n, 8n, 0x20000n, 0x20008n, 0xffff_ffffn]) expect(ask('personality', domain)).toBe(allow)
    expect(ask('personality', 0x40000n)).toBe(EPERM)
    expect(ask('personality', 0x1_0000_0000n)).toBe(EPERM)
  })

  it('answers calls that are newer than the profile with ENOSYS, and gaps below with its default', () => {
    const answer = (nr: number, arch: number): number => runFilter(program, { nr, arch }).answer
    expect(answer(number('x86_64', 'removexattrat'), x64)).toBe(allow)
    expect(answer(number('x86_64', 'removexattrat') + 1, x64)).toBe(ENOSYS)
    expect(answer(5000, x64)).toBe(ENOSYS)
    expect(answer(400, x64)).toBe(EPERM)
    expect(answer(5000, x86)).toBe(ENOSYS)
    expect(answer(x32Bit + 490, x64)).toBe(ENOSYS)
    expect(answer(x32Bit + 512, x64)).toBe(allow)
    expect(answer(x32Bit + 600, x64)).toBe(ENOSYS)
    expect(answer(0xffff_ffff, x64)).toBe(ENOSYS)
  })

  it('ends a process of an architecture that is not listed', () => {
    expect(runFilter(program, { nr: 0, arch: arm64 }).answer).toBe(killProcess)
    const only64 = compileSeccomp({ ...dockerX64, architectures: ['SCMP_ARCH_X86_64'] }, 'x64').program
    expect(runFilter(only64, { nr: 3, arch: x86 }).answer).toBe(killProcess)
    expect(runFilter(only64, { nr: x32Bit + 1, arch: x64 }).answer).toBe(killProcess)
    expect(runFilter(only64, { nr: 1, arch: x64 }).answer).toBe(allow)
  })

  it('covers the 32-bit calls of both machines', () => {
    expect(runFilter(program, { nr: number('x86', 'socketcall'), arch: x86 }).answer).toBe(allow)
    expect(runFilter(program, { nr: number('x86', 'mount'), arch: x86 }).answer).toBe(EPERM)
    const other = compileSeccomp(dockerArm64, 'arm64').program
    expect(runFilter(other, { nr: number('aarch64', 'openat'), arch: arm64 }).answer).toBe(allow)
    expect(runFilter(other, { nr: number('aarch64', 'mount'), arch: arm64 }).answer).toBe(EPERM)
    expect(runFilter(other, { nr: number('arm', 'open'), arch: arm }).answer).toBe(allow)
    expect(runFilter(other, { nr: number('arm', 'cacheflush'), arch: arm }).answer).toBe(allow)
    expect(runFilter(other, { nr: number('arm', 'get_tls'), arch: arm }).answer).toBe(ENOSYS)
    expect(runFilter(other, { nr: 600, arch: arm }).answer).toBe(ENOSYS)
  })

  it('opens with capabilities what Docker opens with them', () => {
    const granted = defaultSeccomp({ architecture: 'amd64', capabilities: ['CAP_SYS_ADMIN', 'CAP_SYS_TIME'] })
    const filter = compileSeccomp(granted, 'x64').program
    for (const name of ['mount', 'unshare', 'clone3', 'bpf', 'clock_settime']) {
      expect(runFilter(filter, { nr: number('x86_64', name), arch: x64 }).answer, name).toBe(allow)
    }
    expect(runFilter(filter, { nr: number('x86_64', 'clone'), arch: x64, args: [0x2000_0000n] }).answer).toBe(allow)
    expect(runFilter(filter, { nr: number('x86_64', 'chroot'), arch: x64 }).answer).toBe(EPERM)
  })

  it('costs a call few instructions, and is found again without compiling', () => {
    for (let nr = 0; nr < 480; nr++) expect(runFilter(program, { nr, arch: x64 }).steps).toBeLessThan(30)
    expect(compileSeccomp(dockerX64, 'x64').program).toBe(program)
    expect(compileSeccomp(JSON.parse(JSON.stringify(dockerX64)), 'x64').program).toBe(program)
  })
})

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

describe('the tables of numbers', () => {
  it('agree with the calls that oci-ts makes itself', () => {
    for (const name of ['openat2', 'mount', 'clone3', 'execveat', 'seccomp', 'pivot_root', 'mount_setattr']) {
      expect(number('x86_64', name)).toBe(syscallNumber(name, 'x64'))
      expect(number('aarch64', name)).toBe(syscallNumber(name, 'arm64'))
    }
  })

  const headers = '/usr/include/x86_64-linux-gnu/asm'
  it.skipIf(!existsSync(`${headers}/unistd_64.h`))(
    "agree with the kernel's headers (needs linux-libc-dev, x64)",
    () => {
      for (const [file, architecture] of [
        ['unistd_64.h', 'x86_64'],
        ['unistd_32.h', 'x86'],
        ['unistd_x32.h', 'x32'],
      ] as const) {
        const numberOf = seccompNumbers(architecture)
        const text = readFileSync(`${headers}/${file}`, 'utf8')
        for (const [, name = '', x32 = '', value = ''] of text.matchAll(
          /#define __NR_(\w+) (\(__X32_SYSCALL_BIT \+ )?(\d+)/g,
        )) {
          expect(numberOf(name), `${architecture} ${name}`).toBe(Number(value) + (x32 === '' ? 0 : x32Bit))
        }
      }
    },
  )
})

/** A small generator, so that a failure can be repeated. */
function random(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

const operators = ['NE', 'LT', 'LE', 'EQ', 'GE', 'GT', 'MASKED_EQ'].map((op) => `SCMP_CMP_${op}`)
const values = [0n, 1n, 2n, 8n, 38n, 0x20000n, 0x1200011n, 0xffff_ffffn, 0x1_0000_0000n, 0x1_0000_0001n, 2n ** 63n]

function interesting(next: (below: number) => number): bigint {
  return values[next(values.length)] ?? 0n
}

function randomConditions(next: (below: number) => number): readonly SeccompArgument[] {
  return [0, 1, 2, 3, 4, 5]
    .filter(() => next(5) === 0)
    .map((index) => {
      const op = operators[next(operators.length)] ?? 'SCMP_CMP_EQ'
      const [a, b] = [interesting(next), interesting(next)]
      return op === 'SCMP_CMP_MASKED_EQ' ? { index, op, value: a, valueTwo: a & b } : { index, op, value: a }
    })
}

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

describe.skipIf(!hasLibseccomp)('beside libseccomp (needs libseccomp.so.2)', () => {
  const machines = [
    ['x64', ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'], ['x86_64', 'x86', 'x32'], dockerX64],
    ['arm64', ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'], ['aarch64', 'arm'], dockerArm64],
  ] as const

  /** Both answers to many calls; kills of a thread and of a process count as one. */
  function compare(profile: SeccompProfile, machine: 'x64' | 'arm64', calls: readonly Call[]): void {
    const ours = compileSeccomp(profile, machine).program
    const theirs = compileWithLibseccomp(profile)
    const wrong = calls.flatMap((call) => {
      const [a, b] = [runFilter(ours, call).answer, runFilter(theirs, call).answer]
      const same = a === b || (a === killProcess && b === 0)
      return same || (a === ENOSYS && call.nr > call.newest) ? [] : [{ call, ours: a, theirs: b }]
    })
    expect(wrong.slice(0, 3), stringifyJsonInt64(profile).slice(0, 3000)).toEqual([])
  }

  /** The newest number of a profile in the sequence that a number is of: arm and x32 have two of them. */
  function newestNear(nr: number, named: readonly number[]): number {
    const apart = nr >= x32Bit ? x32Bit + 512 : 0xf_0000
    return Math.max(0, ...named.filter((one) => one >= apart === nr >= apart && one >= x32Bit === nr >= x32Bit))
  }

  interface Call {
    readonly name: string
    readonly nr: number
    readonly arch: number
    readonly args: readonly bigint[]
    readonly newest: number
  }

  /** Names that both sides know; libseccomp may be older than our tables. */
  function commonNames(architecture: SeccompArchitecture, token: number): ReadonlyMap<string, number> {
    const numberOf = seccompNumbers(architecture)
    const names = new Set([...(dockerX64.syscalls ?? []), ...(dockerArm64.syscalls ?? [])].flatMap((s) => s.names))
    for (const name of ['mount', 'bpf', 'kexec_load', 'reboot', 'acct', 'swapon', 'setns', 'quotactl']) names.add(name)
    return new Map(
      [...names].flatMap((name) => {
        const number = numberOf(name)
        return number === undefined || resolve(name, token) !== number ? [] : [[name, number] as const]
      }),
    )
  }

  it.each(machines)("decides Docker's default profile alike on %s", (machine, list, architectures, docker) => {
    const calls: Call[] = []
    const next = random(1)
    for (const [i, architecture] of architectures.entries()) {
      const token = tokens[list[i] ?? 'SCMP_ARCH_X86']
      const names = commonNames(architecture, token)
      const numbers = [...names.values()]
      for (const [name, nr] of names) {
        for (let n = 0; n < 12; n++) {
          const args = [0, 1, 2, 3, 4, 5].map(() => interesting(next))
          calls.push({ name, nr, arch: architecture === 'x32' ? x64 : token, args, newest: newestNear(nr, numbers) })
        }
      }
    }
    expect(calls.length).toBeGreaterThan(5000)
    // What libseccomp does not know stays out of both.
    const known = new Set(
      architectures.flatMap((a, i) => [...commonNames(a, tokens[list[i] ?? 'SCMP_ARCH_X86']).keys()]),
    )
    const syscalls = (docker.syscalls ?? []).map((s) => ({ ...s, names: s.names.filter((name) => known.has(name)) }))
    compare({ ...docker, syscalls: syscalls.filter((s) => s.names.length > 0) }, machine, calls)
  })

  it.each(machines)('decides random profiles alike on %s', (machine, list, architectures) => {
    const tables = architectures.map((a, i) => commonNames(a, tokens[list[i] ?? 'SCMP_ARCH_X86']))
    const next = random(7)
    for (let round = 0; round < 60; round++) {
      const profile = randomProfile(
        next,
        list.filter((_, i) => i === 0 || next(2) === 0),
        tables,
      )
      const calls: Call[] = []
      for (const [i, architecture] of architectures.entries()) {
        const token = tokens[list[i] ?? 'SCMP_ARCH_X86']
        const names = [...(tables[i] ?? [])]
        const used = (profile.syscalls ?? []).flatMap((s) => s.names)
        const numbers = used.flatMap((name) => tables[i]?.get(name) ?? [])
        for (let n = 0; n < 150; n++) {
          const [name, nr] = (n % 2 === 0 ? names.filter(([one]) => used.includes(one)) : names)[next(names.length)] ??
            names[next(names.length)] ?? ['', 0]
          const args = [0, 1, 2, 3, 4, 5].map(() => interesting(next))
          calls.push({ name, nr, arch: architecture === 'x32' ? x64 : token, args, newest: newestNear(nr, numbers) })
        }
      }
      compare(profile, machine, calls)
    }
  })

  /** One rule a call: of several with conditions, libseccomp 2.5.4 loses some when it merges them. */
  function randomProfile(
    next: (below: number) => number,
    architectures: readonly string[],
    tables: readonly ReadonlyMap<string, number>[],
  ): SeccompProfile {
    const actions = ['SCMP_ACT_ALLOW', 'SCMP_ACT_ERRNO', 'SCMP_ACT_LOG', 'SCMP_ACT_KILL_PROCESS', 'SCMP_ACT_TRAP']
    // A name that an architecture lacks can make libseccomp 2.5.4 forget to load the number of the call.
    const names = [...(tables[0]?.keys() ?? [])].filter(
      (name) => tables.every((table) => table.has(name)) && !multiplexed.has(name),
    )
    const syscalls = Array.from({ length: 1 + next(30) }, () => {
      const name = names[next(names.length)] ?? 'read'
      const action = actions[next(actions.length)] ?? 'SCMP_ACT_ALLOW'
      const args = randomConditions(next)
      return { names: [name], action, ...(args.length === 0 ? {} : { args }) }
    })
    const once = syscalls.filter(({ names: [name] }, i) => syscalls.findIndex((s) => s.names[0] === name) === i)
    return { defaultAction: actions[next(actions.length)] ?? 'SCMP_ACT_ERRNO', architectures, syscalls: once }
  }

  /** On i386 they can be made in two ways, where we are stricter with conditions. */
  const multiplexed = new Set(
    ['socket', 'bind', 'connect', 'listen', 'accept', 'accept4', 'getsockname', 'getpeername', 'socketpair', 'send']
      .concat(['recv', 'sendto', 'recvfrom', 'shutdown', 'setsockopt', 'getsockopt', 'sendmsg', 'recvmsg', 'recvmmsg'])
      .concat(['sendmmsg', 'semop', 'semget', 'semctl', 'semtimedop', 'msgsnd', 'msgrcv', 'msgget', 'msgctl', 'shmat'])
      .concat(['shmdt', 'shmget', 'shmctl', 'socketcall', 'ipc']),
  )
})

const perl = spawnSync('perl', ['-e', 'exit 0']).status === 0
const native = process.arch === 'arm64' ? 'arm64' : 'x64'

describe.skipIf(process.platform !== 'linux' || !perl)('in the kernel (needs Linux and perl)', () => {
  /** Sets the filter for itself, then runs a program under it. */
  const loader = `
    my ($prctl, $seccomp, $flags, $hex, @command) = @ARGV;
    my $filter = pack('H*', $hex);
    my $program = pack('S x![P] P', length($filter) / 8, $filter);
    syscall($prctl, 38, 1, 0, 0, 0) == 0 or die "prctl: $!";
    syscall($seccomp, 1, $flags + 0, $program) == 0 or die "seccomp: $!";
    exec @command or die "exec: $!";
  `
  function run(profile: SeccompProfile, ...command: readonly string[]): ReturnType<typeof spawnSync> {
    const { program, flags } = compileSeccomp(profile, native)
    const [prctl, seccomp] = native === 'x64' ? [157, 317] : [167, 277]
    const hex = Buffer.from(program).toString('hex')
    return spawnSync('perl', ['-e', loader, `${prctl}`, `${seccomp}`, `${flags}`, hex, ...command], {
      encoding: 'utf8',
    })
  }

  it("loads Docker's profile, under which programs run and can't leave", () => {
    const docker = native === 'x64' ? dockerX64 : dockerArm64
    expect(run(docker, 'sh', '-c', 'grep Seccomp: /proc/self/status').stdout).toMatch(/Seccomp:\s+2/)
    const unshare = run(docker, 'unshare', '--user', 'true')
    expect(unshare.status).not.toBe(0)
    expect(String(unshare.stderr)).toMatch(/not permitted/i)
  })

  it('answers with the errno of a rule, and ends a process that the profile wants ended', () => {
    const refuse = (action: string): SeccompProfile => ({
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [{ names: ['mkdir', 'mkdirat'], action, ...(action === 'SCMP_ACT_ERRNO' ? { errnoRet: 28 } : {}) }],
    })
    expect(String(run(refuse('SCMP_ACT_ERRNO'), 'mkdir', '/tmp/never-made').stderr)).toMatch(/no space left/i)
    expect(run(refuse('SCMP_ACT_KILL_PROCESS'), 'mkdir', '/tmp/never-made').signal).toBe('SIGSYS')
  })
})
