import { describe, expect, it } from 'vitest'
import { stringifyJsonInt64 } from '../../../src/internal/json-int64.ts'
import { runFilter } from '../../../src/linux/seccomp/interpret.ts'
import { compileSeccomp, type SeccompProfile } from '../../../src/linux/seccomp.ts'
import { type SeccompArchitecture, seccompNumbers, x32Bit } from '../../../src/linux/seccomp-numbers.ts'
import { compileWithLibseccomp, hasLibseccomp, resolve, tokens } from './libseccomp.ts'
import { dockerArm64, dockerX64, ENOSYS, interesting, killProcess, random, randomConditions, x64 } from './support.ts'

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
