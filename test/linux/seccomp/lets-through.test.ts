import { describe, expect, it } from 'vitest'
import { call, out } from '../../../src/linux/call.ts'
import { letsThrough } from '../../../src/linux/seccomp/lets-through.ts'
import { compileSeccomp, type SeccompArgument } from '../../../src/linux/seccomp.ts'

describe.each(['x64', 'arm64'] as const)('what a filter of %s is sure to let through', (machine) => {
  const program = (action: string, args: readonly SeccompArgument[] = [], defaultAction = 'SCMP_ACT_ALLOW') =>
    compileSeccomp({ defaultAction, syscalls: [{ names: ['prctl', 'chdir'], action, args }] }, machine).program
  const prctl = (...args: readonly number[]) => call('prctl', args)

  it('is what no rule is for, with whatever arguments', () => {
    const filter = program('SCMP_ACT_ERRNO')
    const opened = call('openat', [-100, 'a', out(8)])
    expect(letsThrough(filter, [call('umask', [0]), opened, call('close', [opened])], machine)).toBe(true)
    expect(letsThrough(filter, [call('umask', [0]), prctl(8, 1)], machine)).toBe(false)
  })

  it.each(['SCMP_ACT_ERRNO', 'SCMP_ACT_KILL_PROCESS', 'SCMP_ACT_TRAP', 'SCMP_ACT_TRACE', 'SCMP_ACT_LOG'])(
    'is nothing that is answered by %s, by a rule or by default',
    (action) => {
      expect(letsThrough(program(action), [prctl(8)], machine)).toBe(false)
      const only = program('SCMP_ACT_ALLOW', [], action)
      expect(letsThrough(only, [prctl(8)], machine)).toBe(true)
      expect(letsThrough(only, [call('umask', [0])], machine)).toBe(false)
    },
  )

  it('is decided by numbers as the kernel gets them', () => {
    const filter = program('SCMP_ACT_ERRNO', [{ index: 1, value: 2n ** 64n - 1n, op: 'SCMP_CMP_EQ' }])
    expect(letsThrough(filter, [prctl(8, 1)], machine)).toBe(true)
    expect(letsThrough(filter, [prctl(8, -1)], machine)).toBe(false)
    // One that is not given is zero.
    expect(letsThrough(filter, [prctl(8)], machine)).toBe(true)
    expect(letsThrough(filter, [call('prctl', [8, 2n ** 64n - 1n])], machine)).toBe(false)
  })

  it('is nothing for which the filter looks at an address, or at a result', () => {
    const filter = program('SCMP_ACT_ERRNO', [{ index: 0, value: 7, op: 'SCMP_CMP_EQ' }])
    expect(letsThrough(filter, [call('chdir', ['/'])], machine)).toBe(false)
    expect(letsThrough(filter, [call('prctl', [out(8)])], machine)).toBe(false)
    expect(letsThrough(filter, [call('prctl', [call('getpid', [])])], machine)).toBe(false)
    expect(letsThrough(filter, [call('prctl', [8, '/', out(8)])], machine)).toBe(true)
  })
})
