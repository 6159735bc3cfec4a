import { describe, expect, it } from 'vitest'
import { defaultSeccomp } from '../../../src/bundle/index.ts'
import { runFilter } from '../../../src/linux/seccomp/interpret.ts'
import { compileSeccomp } from '../../../src/linux/seccomp.ts'
import { x32Bit } from '../../../src/linux/seccomp-numbers.ts'
import { allow, arm, arm64, dockerArm64, dockerX64, ENOSYS, EPERM, killProcess, number, x64, x86 } from './support.ts'

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
