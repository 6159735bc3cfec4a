import { describe, expect, it } from 'vitest'
import { call } from '../../../src/linux/call.ts'
import { runFilter } from '../../../src/linux/seccomp/interpret.ts'
import { bearing, type FilterMark, replyMarkOf, withMark } from '../../../src/linux/seccomp/mark.ts'
import { compileSeccomp, type SeccompProfile, seccompMachines } from '../../../src/linux/seccomp.ts'
import { seccompNumbers } from '../../../src/linux/seccomp-numbers.ts'

const allow = 0x7fff_0000
const notify = 0x7fc0_0000
const refuse = 0x0005_0001

describe.each(['x64', 'arm64'] as const)('a mark in a filter of %s', (machine) => {
  const [native, foreign] = seccompMachines[machine]
  const numberOf = seccompNumbers(machine === 'x64' ? 'x86_64' : 'aarch64')
  const ask = (
    filter: { readonly program: Uint8Array },
    name: string,
    args: readonly bigint[],
    arch = native?.audit as number,
  ): number => runFilter(filter.program, { nr: numberOf(name) as number, arch, args }).answer
  const filter = (profile: SeccompProfile) => {
    const made = withMark(compileSeccomp(profile, machine), machine)
    const mark = made.mark as FilterMark
    const argsOf = (name: string, args: readonly number[]): readonly bigint[] =>
      bearing(call(name, args), mark).args.map((arg) => BigInt(arg as number))
    return { ...made, argsOf, reply: [3n, 4096n, 64n, 0x4000n, 0n, replyMarkOf(mark)] }
  }
  const all = filter({ defaultAction: 'SCMP_ACT_NOTIFY' })
  const none = filter({
    defaultAction: 'SCMP_ACT_ALLOW',
    syscalls: [
      { names: ['sendmsg', 'dup3', 'sendto', 'close'], action: 'SCMP_ACT_ERRNO' },
      { names: ['read'], action: 'SCMP_ACT_NOTIFY' },
    ],
  })

  it('lets the calls through that bear it, whatever the rules say', () => {
    for (const each of [all, none]) {
      expect(ask(each, 'sendmsg', each.argsOf('sendmsg', [7, 4096, 0x4000]))).toBe(allow)
      expect(ask(each, 'dup3', each.argsOf('dup3', [7, 8, 0o2000000]))).toBe(allow)
      expect(ask(each, 'sendto', each.reply)).toBe(allow)
    }
  })

  it('lets through no call without it, with another one, or with half of it', () => {
    for (const each of [all, none]) {
      const refused = each === all ? notify : refuse
      const [first = 0n, second = 0n, third = 0n] = each.argsOf('sendmsg', [7, 4096, 0])
      const other = each === all ? none : all
      for (const args of [
        [7n, 4096n, 0n],
        [first, second, 0n],
        [7n, second, third],
        other.argsOf('sendmsg', [7, 8, 0]),
      ]) {
        expect(ask(each, 'sendmsg', args)).toBe(refused)
      }
      for (const args of [[3n, 4096n, 64n, 0x4000n, 0n, 0n], other.reply]) {
        expect(ask(each, 'sendto', args)).toBe(refused)
      }
      expect(ask(each, 'close', each.argsOf('sendmsg', [7, 4096, 0]))).toBe(refused)
    }
  })

  it('changes nothing for other calls, and for other architectures', () => {
    expect(ask(none, 'read', [1n])).toBe(notify)
    expect(ask(none, 'write', [1n])).toBe(allow)
    expect(ask(all, 'sendmsg', all.argsOf('sendmsg', [7, 4096, 0]), foreign?.audit)).toBe(0x8000_0000)
  })

  it('is not in a filter that lets all of the calls through that are made under it', () => {
    const plain = compileSeccomp({ defaultAction: 'SCMP_ACT_ALLOW' }, machine)
    expect(withMark(plain, machine)).toBe(plain)
    const args = [{ index: 0, value: 7, op: 'SCMP_CMP_GT' }] as const
    const rule = { names: ['sendto'], action: 'SCMP_ACT_ERRNO', args } as const
    const under = withMark(compileSeccomp({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [rule] }, machine), machine)
    expect(under.mark).toBeDefined()
  })
})
