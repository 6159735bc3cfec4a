import { describe, expect, it } from 'vitest'
import { call } from '../../../src/linux/call.ts'
import { runFilter } from '../../../src/linux/seccomp/interpret.ts'
import { bearing, newMark, withMark } from '../../../src/linux/seccomp/mark.ts'
import { compileSeccomp, seccompMachines } from '../../../src/linux/seccomp.ts'
import { seccompNumbers } from '../../../src/linux/seccomp-numbers.ts'

const allow = 0x7fff_0000
const notify = 0x7fc0_0000
const refuse = 0x0005_0001

describe.each(['x64', 'arm64'] as const)('a mark in a filter of %s', (machine) => {
  const [native, foreign] = seccompMachines[machine]
  const numberOf = seccompNumbers(machine === 'x64' ? 'x86_64' : 'aarch64')
  const mark = newMark()
  const ask = (
    filter: { readonly program: Uint8Array },
    name: string,
    args: readonly bigint[],
    arch = native?.audit as number,
  ): number => runFilter(filter.program, { nr: numberOf(name) as number, arch, args }).answer
  const argsOf = (name: string, args: readonly number[]): readonly bigint[] =>
    bearing(call(name, args), mark).args.map((arg) => BigInt(arg as number))
  const all = withMark(compileSeccomp({ defaultAction: 'SCMP_ACT_NOTIFY' }, machine), mark, machine)
  const none = withMark(
    compileSeccomp(
      {
        defaultAction: 'SCMP_ACT_ALLOW',
        syscalls: [{ names: ['sendmsg', 'dup3', 'close'], action: 'SCMP_ACT_ERRNO' }],
      },
      machine,
    ),
    mark,
    machine,
  )

  it('lets the calls through that bear it, whatever the rules say', () => {
    expect(ask(all, 'sendmsg', argsOf('sendmsg', [7, 4096, 0x4000]))).toBe(allow)
    expect(ask(all, 'dup3', argsOf('dup3', [7, 8, 0o2000000]))).toBe(allow)
    expect(ask(none, 'sendmsg', argsOf('sendmsg', [7, 4096, 0x4000]))).toBe(allow)
    expect(ask(none, 'dup3', argsOf('dup3', [7, 8, 0]))).toBe(allow)
  })

  it('lets through no call without it, with another one, or with half of it', () => {
    const [first = 0n, second = 0n, third = 0n] = argsOf('sendmsg', [7, 4096, 0])
    for (const args of [[7n, 4096n, 0n], [first, second, 0n], [7n, second, third], argsOf('dup3', [7, 8, 0])]) {
      expect(ask(all, 'sendmsg', args)).toBe(notify)
      expect(ask(none, 'sendmsg', args)).toBe(refuse)
    }
    expect(ask(all, 'close', argsOf('sendmsg', [7, 4096, 0]))).toBe(notify)
  })

  it('changes nothing for other calls, and for other architectures', () => {
    expect(ask(none, 'close', [1n])).toBe(refuse)
    expect(ask(none, 'read', [1n])).toBe(allow)
    expect(ask(all, 'sendmsg', argsOf('sendmsg', [7, 4096, 0]), foreign?.audit)).toBe(0x8000_0000)
  })
})
