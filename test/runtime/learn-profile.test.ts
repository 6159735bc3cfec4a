import { describe, expect, it } from 'vitest'
import type { LinuxSeccomp, LinuxSyscall } from '../../src/bundle/index.ts'
import { CapabilityEvents } from '../../src/runtime/learn/capability-events.ts'
import { type CountedCall, Learning } from '../../src/runtime/learn/learning.ts'
import { learnedProfile } from '../../src/runtime/learn/profile.ts'

const called = (name: string, errno?: number): CountedCall => ({
  name,
  architecture: 'x86_64',
  count: 2,
  refused: errno === undefined ? 0 : 2,
  errno: errno ?? 0,
})
const rulesFor = (profile: LinuxSeccomp, name: string): readonly Omit<LinuxSyscall, 'names'>[] =>
  (profile.syscalls ?? []).filter(({ names }) => names.includes(name)).map(({ names: _, ...rule }) => rule)
const allow = [{ action: 'SCMP_ACT_ALLOW' }]

describe('the profile that is learned', () => {
  it('allows what was called, what every program may need and what its start needs, and nothing else', () => {
    const profile = learnedProfile(undefined, [called('openat'), called('chown')], ['capset'])
    expect(profile).toEqual({
      defaultAction: 'SCMP_ACT_ERRNO',
      architectures: ['SCMP_ARCH_X86_64'],
      syscalls: [
        {
          names: [
            ...['capset', 'chown', 'clock_getres', 'clock_gettime', 'execve', 'exit', 'exit_group', 'getcpu'],
            ...['gettimeofday', 'openat', 'restart_syscall', 'rt_sigreturn', 'sigreturn', 'time'],
          ],
          action: 'SCMP_ACT_ALLOW',
        },
      ],
    })
  })

  it('lists the architectures that were seen', () => {
    const calls = [called('read'), { ...called('read'), architecture: 'x86' } as const]
    expect(learnedProfile(undefined, calls, []).architectures).toEqual(['SCMP_ARCH_X86', 'SCMP_ARCH_X86_64'])
  })

  it('keeps of a profile that refuses by default the conditions, the errnos and the flags', () => {
    const args = [{ index: 0, value: 8n, op: 'SCMP_CMP_EQ' }] as const
    const own: LinuxSeccomp = {
      defaultAction: 'SCMP_ACT_ERRNO',
      defaultErrnoRet: 13,
      flags: ['SECCOMP_FILTER_FLAG_LOG'],
      syscalls: [
        { names: ['personality', 'socket'], action: 'SCMP_ACT_ALLOW', args },
        { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 },
        { names: ['read', 'write'], action: 'SCMP_ACT_ALLOW' },
        { names: ['chown'], action: 'SCMP_ACT_LOG' },
      ],
    }
    const calls = [called('personality'), called('clone3', 38), called('read'), called('mount', 13), called('chown')]
    const profile = learnedProfile(own, calls, [])
    expect(profile).toMatchObject({ defaultErrnoRet: 13, flags: own.flags })
    expect(rulesFor(profile, 'personality')).toEqual([{ action: 'SCMP_ACT_ALLOW', args }])
    expect(rulesFor(profile, 'clone3')).toEqual([{ action: 'SCMP_ACT_ERRNO', errnoRet: 38 }])
    expect(rulesFor(profile, 'mount')).toEqual([{ action: 'SCMP_ACT_ERRNO', errnoRet: 13 }])
    expect(rulesFor(profile, 'read')).toEqual(allow)
    expect(rulesFor(profile, 'chown')).toEqual(allow)
    for (const name of ['write', 'socket']) expect(rulesFor(profile, name)).toEqual([])
  })

  it('keeps the order of rules with conditions, and what a profile refuses that allows by default', () => {
    const rule = (value: number, errnoRet: number): LinuxSyscall => ({
      names: ['socket'],
      action: 'SCMP_ACT_ERRNO',
      errnoRet,
      args: [{ index: 0, value, op: 'SCMP_CMP_EQ' }],
    })
    const open: LinuxSyscall = { ...rule(1, 1), action: 'SCMP_ACT_ALLOW' }
    const own: LinuxSeccomp = { defaultAction: 'SCMP_ACT_KILL', syscalls: [rule(2, 5), open, rule(3, 6)] }
    const calls = [called('bind'), called('socket')]
    const kept = rulesFor(learnedProfile(own, calls, []), 'socket')
    expect(kept.map(({ errnoRet, action }) => (action === 'SCMP_ACT_ERRNO' ? errnoRet : 'open'))).toEqual(
      [5, 1, 6].map((each) => (each === 1 ? 'open' : each)),
    )
    const permissive: LinuxSeccomp = {
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [rule(2, 5), { names: ['bind'], action: 'SCMP_ACT_ERRNO', errnoRet: 7 }],
    }
    const learned = learnedProfile(permissive, calls, [])
    expect(rulesFor(learned, 'bind')).toEqual([{ action: 'SCMP_ACT_ERRNO', errnoRet: 7 }])
    expect(rulesFor(learned, 'socket')).toEqual(allow)
  })
})

describe('Learning', () => {
  it('knows nothing before anything was started, and says so', () => {
    const { calls, capabilities, capabilitiesUnknown } = new Learning().report()
    expect({ calls, capabilities }).toEqual({ calls: [], capabilities: undefined })
    expect(capabilitiesUnknown).toContain('no program')
  })
})

describe('events of capability:cap_capable', () => {
  const pointers = 'cred 00000000316ea3fe, target_ns 00000000b2322538, capable_ns 00000000b2322538'
  const event = (name: string, pid: number, cap: number, ret = 0): string =>
    `${name}-${pid}   [001] .N...  1230.521108: cap_capable: ${pointers}, cap ${cap}, ret ${ret}\n`
  const stack = (name: string, pid: number, ...frames: readonly string[]): string =>
    `${name}-${pid}   [001] .N...  1230.52: <stack trace>\n${frames.map((each) => ` => ${each}\n`).join('')}`
  const found = (...texts: readonly string[]): readonly number[] => {
    const events = new CapabilityEvents()
    for (const text of texts) events.read(text)
    return [...events.found].sort((a, b) => a - b)
  }

  it('are read however the text is cut into pieces', () => {
    const text = `${event('  sh', 7, 0)}${event('sh-9 [a]', 8, 12)}${event('x', 9, 3, -1)}`
    expect(found(text)).toEqual([0, 12])
    expect(found(...text)).toEqual([0, 12])
  })

  it('do not count where the kernel asks for it with every piece of memory', () => {
    const memory = stack('sh', 7, 'cap_capable', 'security_vm_enough_memory_mm', 'do_mmap')
    const used = stack('sh', 7, 'cap_capable', 'ns_capable', '__x64_sys_mount')
    expect(found(event('sh', 7, 21), memory)).toEqual([])
    expect(found(event('sh', 7, 21), memory, event('sh', 7, 21), used)).toEqual([21])
    // Others get in between.
    expect(found(event('sh', 7, 21), event('sh', 8, 5), memory)).toEqual([5])
    expect(found(event('sh', 8, 21), event('sh', 7, 5), stack('sh', 8, 'ns_capable'), memory)).toEqual([21])
  })

  it('do not count where an overlay asks for itself, to work on its layers', () => {
    const of = (...frames: readonly string[]): readonly number[] =>
      found(event('sh', 7, 1), stack('sh', 7, 'cap_capable', 'capable_wrt_inode_uidgid', ...frames))
    expect(of('generic_permission', 'inode_permission', 'vfs_mkdir', 'ovl_create_real', 'vfs_mkdir')).toEqual([])
    expect(of('setattr_prepare', 'shmem_setattr', 'notify_change', 'ovl_setattr', 'notify_change')).toEqual([])
    expect(of('ovl_open_realfile', 'ovl_open')).toEqual([])
    expect(of('generic_permission', 'ovl_permission', 'inode_permission', 'may_open')).toEqual([1])
    expect(of('setattr_prepare', 'ovl_setattr', 'notify_change', 'chown_common')).toEqual([1])
    expect(of('generic_permission', 'inode_permission', 'vfs_mkdir', 'do_mkdirat')).toEqual([1])
  })

  it('are told from what a program has written into its own name', () => {
    expect(found(event('cap 7, ret 0', 7, 1, -1))).toEqual([])
    expect(found(event('a\n => b\n-1 [0] ', 7, 2))).toEqual([2])
  })
})
