import { execFileSync, spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { defaultSeccomp, type LinuxSeccomp } from '../../src/bundle/index.ts'
import { cannotRun, Sandbox, specOf } from './support.ts'

const compiler = spawnSync('cc', ['--version']).status === 0 ? undefined : 'needs a C compiler'

// Makes system calls by number and prints their errors: what a program that is up to something would do.
const probe = `
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void) {
  printf("unshare %d\\n", syscall(SYS_unshare, CLONE_NEWUTS) < 0 ? errno : 0);
  printf("clone-newuser %d\\n", syscall(SYS_clone, CLONE_NEWUSER, 0, 0, 0, 0) < 0 ? errno : 0);
  printf("clone3 %d\\n", syscall(SYS_clone3, 0, 0) < 0 ? errno : 0);
  printf("keyctl %d\\n", syscall(SYS_keyctl, 0, 0, 0, 0, 0) < 0 ? errno : 0);
  printf("alg %d\\n", socket(38, SOCK_SEQPACKET, 0) < 0 ? errno : 0);
  printf("vsock %d\\n", socket(40, SOCK_STREAM, 0) < 0 ? errno : 0);
  printf("inet %d\\n", socket(AF_INET, SOCK_STREAM, 0) < 0 ? errno : 0);
  printf("unknown %d\\n", syscall(4000) < 0 ? errno : 0);
  printf("mount %d\\n", syscall(SYS_mount, "x", "/", "tmpfs", 0, 0) < 0 ? errno : 0);
  printf("getpid %d\\n", syscall(SYS_getpid) < 0 ? errno : 0);
  return 0;
}
`
const EPERM = 1
const ENOSYS = 38
const why = cannotRun ?? compiler

describe.skipIf(why)(`seccomp (${why ?? 'in real containers'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    const source = join(sandbox.directory, 'probe.c')
    writeFileSync(source, probe)
    execFileSync('cc', ['-static', '-o', join(sandbox.rootfs, 'probe'), source])
    await sandbox.remember()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  const capabilities = ['CAP_CHOWN', 'CAP_SETUID', 'CAP_NET_BIND_SERVICE']
  const sets = { bounding: capabilities, permitted: capabilities, effective: capabilities }
  const docker = defaultSeccomp({ architecture: process.arch === 'arm64' ? 'arm64' : 'amd64', capabilities })
  const probed = async (seccomp: LinuxSeccomp | undefined, noNewPrivileges: boolean) => {
    const linux = seccomp === undefined ? {} : { seccomp }
    const spec = specOf(['/probe'], { process: { capabilities: sets, noNewPrivileges } })
    const { stdout } = await sandbox.run({ ...spec, linux: { ...spec.linux, ...linux } })
    return Object.fromEntries(
      stdout
        .trim()
        .split('\n')
        .map((line) => [line.split(' ')[0], Number(line.split(' ')[1])]),
    )
  }

  it.each([true, false])(
    'blocks with the default profile what Docker blocks (no_new_privs: %s)',
    async (noNewPrivileges) => {
      expect(await probed(docker, noNewPrivileges)).toEqual({
        unshare: EPERM,
        'clone-newuser': EPERM,
        clone3: ENOSYS,
        keyctl: EPERM,
        alg: EPERM,
        vsock: EPERM,
        inet: 0,
        unknown: ENOSYS,
        mount: EPERM,
        getpid: 0,
      })
    },
  )

  it('leaves nothing of the capability that loading the filter takes', async () => {
    const script = 'grep -E "^Cap(Prm|Eff|Bnd)|^Seccomp:|^NoNewPrivs" /proc/self/status'
    const stdout = await sandbox.sh(script, {
      process: { capabilities: sets },
      linux: { ...specOf([]).linux, seccomp: docker },
    })
    const mask = '0000000000000481'
    expect(stdout.replace(/\t/g, ' ')).toBe(
      `CapPrm: ${mask}\nCapEff: ${mask}\nCapBnd: ${mask}\nNoNewPrivs: 0\nSeccomp: 2\n`,
    )
  })

  it('works for an ordinary user in the container, without no_new_privs', async () => {
    const stdout = await sandbox.sh('grep -E "^(Uid|CapEff|Seccomp):" /proc/self/status', {
      process: { user: { uid: 1000, gid: 1000 }, capabilities: sets },
      linux: { ...specOf([]).linux, seccomp: docker },
    })
    expect(stdout.replace(/\s+/g, ' ')).toBe('Uid: 1000 1000 1000 1000 CapEff: 0000000000000000 Seccomp: 2 ')
  })

  it('ends the program at a call whose answer is to kill it', async () => {
    const seccomp: LinuxSeccomp = {
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [{ names: ['uname'], action: 'SCMP_ACT_KILL_PROCESS' }],
    }
    const spec = specOf(['uname'], { linux: { ...specOf([]).linux, seccomp } })
    expect((await sandbox.run(spec)).status).toMatchObject({ signal: 'SIGSYS', code: 128 + 31 })
  })

  it('answers by the arguments of a call', async () => {
    const seccomp: LinuxSeccomp = {
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [
        {
          names: ['socket'],
          action: 'SCMP_ACT_ERRNO',
          errnoRet: 99,
          args: [{ index: 0, value: 2, op: 'SCMP_CMP_EQ' }],
        },
      ],
    }
    expect(await probed(seccomp, true)).toMatchObject({ inet: 99, unshare: EPERM })
  })
})
