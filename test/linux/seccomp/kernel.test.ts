import { spawnSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import { compileSeccomp, type SeccompProfile } from '../../../src/linux/seccomp.ts'
import { dockerArm64, dockerX64 } from './support.ts'

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
