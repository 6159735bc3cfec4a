import { closeSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Spec } from '../../src/bundle/index.ts'
import {
  exec,
  Learning,
  type SyscallAnswer,
  type SyscallHandler,
  type SyscallHandlers,
  type WaitingSyscall,
} from '../../src/runtime/index.ts'
import { cannotRun, type Outcome, Sandbox, specOf } from './support.ts'

/** The calls by which busybox makes a directory, whatever libc it was made with. */
const mkdirs = ['mkdir', 'mkdirat'] as const

/** Path of the directory that is to be made. */
function pathOf(call: WaitingSyscall): Promise<string> {
  return call.readString(call.args[call.name === 'mkdirat' ? 1 : 0] as bigint)
}

describe.skipIf(cannotRun)(`onSyscall (${cannotRun ?? 'with real containers'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  const onMkdir = (handler: SyscallHandler): SyscallHandlers =>
    Object.fromEntries(mkdirs.map((name) => [name, handler]))
  const sh = (script: string, onSyscall: SyscallHandlers, changes: Parameters<typeof specOf>[1] = {}, more = {}) =>
    sandbox.run(specOf(['sh', '-c', script], changes), { onSyscall, ...more })
  /** Runs `action`. @returns the warnings that came meanwhile. */
  const warningsDuring = async (action: () => Promise<Outcome>): Promise<{ outcome: Outcome; warnings: string[] }> => {
    const warnings: string[] = []
    const listen = (warning: Error & { code?: string }): void => {
      if (warning.code === 'OCI_SYSCALL') warnings.push(warning.message)
    }
    process.on('warning', listen)
    try {
      const outcome = await action()
      await new Promise((resolve) => setImmediate(resolve))
      return { outcome, warnings }
    } finally {
      process.off('warning', listen)
    }
  }

  it.each([true, false])(
    'lets a function decide, by what the call is about (no_new_privs: %s)',
    async (noNewPrivileges) => {
      const seen: string[] = []
      const { stdout, stderr, status } = await sh(
        'mkdir /tmp/no; mkdir /tmp/full; mkdir /tmp/yes; mkdir /tmp/pretended; ls /tmp',
        onMkdir(async (call) => {
          const path = await pathOf(call)
          seen.push(path)
          expect(call.architecture).toBe(process.arch === 'x64' ? 'x86_64' : 'aarch64')
          expect(readFileSync(`/proc/${call.pid}/comm`, 'utf8')).toMatch(/mkdir|sh|busybox/)
          if (path === '/tmp/no') return { errno: 'EACCES' }
          if (path === '/tmp/full') return { errno: 28 }
          return path === '/tmp/yes' ? 'continue' : { value: 0 }
        }),
        { process: { noNewPrivileges } },
      )
      rmSync(join(sandbox.rootfs, 'tmp/yes'), { recursive: true, force: true })
      expect(seen).toEqual(['/tmp/no', '/tmp/full', '/tmp/yes', '/tmp/pretended'])
      expect(stderr).toMatch(/\/tmp\/no'?: Permission denied\n.*\/tmp\/full'?: No space left/)
      expect(stdout).toBe('yes\n')
      expect(status.code).toBe(0)
    },
  )

  it('comes before the rules of a profile, which hold for everything else', async () => {
    const { stdout, stderr } = await sh(
      'mkdir /tmp/made && rmdir /tmp/made && echo made; chmod 700 /tmp || echo refused',
      onMkdir(async () => 'continue'),
      {
        linux: {
          ...specOf([]).linux,
          seccomp: {
            defaultAction: 'SCMP_ACT_ALLOW',
            syscalls: [
              { names: [...mkdirs], action: 'SCMP_ACT_ERRNO' },
              { names: ['chmod', 'fchmodat', 'fchmodat2'], action: 'SCMP_ACT_ERRNO', errnoRet: 1 },
            ],
          },
        },
      },
    )
    expect(stdout).toBe('made\nrefused\n')
    expect(stderr).toContain('Operation not permitted')
  })

  it('hands the container a descriptor of this process', async () => {
    const file = join(sandbox.directory, 'secret')
    writeFileSync(file, 'only here\n')
    const opens = ['open', 'openat'] as const
    const opened: number[] = []
    const { stdout, stderr } = await sh(
      'cat /not/there; cat /not/there',
      Object.fromEntries(
        opens.map((name) => [
          name,
          async (call) => {
            if ((await call.readString(call.args[name === 'openat' ? 1 : 0] as bigint)) !== '/not/there')
              return 'continue'
            const descriptor = openSync(file, 'r')
            opened.push(descriptor)
            return { descriptor }
          },
        ]),
      ),
    )
    expect({ stdout, stderr }).toEqual({ stdout: 'only here\nonly here\n', stderr: '' })
    // They were closed when they had been handed on.
    for (const fd of new Set(opened)) expect(() => closeSync(fd)).toThrow('EBADF')
  })

  it('answers several at the same time, in any order', async () => {
    let release = (): void => {}
    const second = new Promise<void>((resolve) => {
      release = resolve
    })
    const { stdout } = await sh(
      'mkdir /tmp/first & mkdir /tmp/second; wait; rmdir /tmp/first /tmp/second && echo both',
      onMkdir(async (call) => {
        if ((await pathOf(call)) === '/tmp/first') await second
        else release()
        return 'continue'
      }),
    )
    expect(stdout).toBe('both\n')
  })

  it('fails the call when a handler throws, answers nonsense or takes too long, and says so', async () => {
    const { outcome, warnings } = await warningsDuring(() =>
      sh(
        'for d in throws late wrong number; do mkdir /tmp/$d; done',
        onMkdir(async (call): Promise<SyscallAnswer> => {
          const path = await pathOf(call)
          if (path === '/tmp/throws') throw new Error('out of order')
          if (path === '/tmp/late') return new Promise(() => {})
          return (path === '/tmp/wrong' ? 'perhaps' : { errno: 'EWHAT' }) as 'continue'
        }),
        {},
        { syscallTimeout: 100 },
      ),
    )
    expect(outcome.stderr.match(/Operation not permitted/g)).toHaveLength(4)
    expect(warnings).toEqual([
      expect.stringMatching(/did not answer mkdir(at)?, which fails with EPERM: out of order/),
      expect.stringMatching(/100 ms|0\.1 s/),
      expect.stringContaining('"perhaps" is no answer'),
      expect.stringContaining('"EWHAT" is no answer'),
    ])
  })

  it('is for what enters the container, too, but only by way of its maker', async () => {
    const seen: string[] = []
    const container = await sandbox.create(specOf(['sleep', '1000']), {
      onSyscall: onMkdir(async (call) => {
        seen.push(await pathOf(call))
        return { errno: 'EROFS' }
      }),
    })
    await container.start()
    const codes = await Promise.all(
      ['/tmp/a', '/tmp/b'].map(async (path) => (await (await container.exec({ args: ['mkdir', path] })).exited).code),
    )
    expect(codes).toEqual([1, 1])
    expect(seen.sort()).toEqual(['/tmp/a', '/tmp/b'])
    const { stateRoot } = sandbox
    await expect(exec(container.id, { args: ['true'] }, { stateRoot })).rejects.toMatchObject({
      code: 'ERR_OCI_INVALID_ARGUMENT',
      message: expect.stringContaining('exec there'),
    })
    await container.delete({ force: true })
  })

  it('shows the execve by which the program starts, and no call of ours', async () => {
    const names: string[] = []
    const note = async (call: WaitingSyscall): Promise<'continue'> => {
      names.push(call.name)
      return 'continue'
    }
    const { status } = await sandbox.run(specOf(['true']), {
      onSyscall: { execve: note, close: note, capset: note, exit_group: note },
    })
    expect(status.code).toBe(0)
    expect(names[0]).toBe('execve')
    expect(names).not.toContain('capset')
    expect(names.at(-1)).toBe('exit_group')
  })

  it('is for the calls, too, by which the filter is handed over', async () => {
    const seen: string[] = []
    const refuse: SyscallHandler = async ({ name }) => {
      seen.push(name)
      return { errno: 'ENOBUFS' }
    }
    // Netlink requests of busybox are sent by sendmsg.
    const { stderr, status } = await sh('ip addr add 127.0.0.2/8 dev lo', { sendmsg: refuse, dup3: refuse })
    expect(new Set(seen)).toEqual(new Set(['sendmsg']))
    expect(stderr).toContain('No buffer space')
    expect(status.code).not.toBe(0)
  })

  it('reads no more than there is, and nothing of who does not wait', async () => {
    const failures: unknown[] = []
    let kept: WaitingSyscall | undefined
    await sh(
      'mkdir /tmp/x; true',
      onMkdir(async (call) => {
        for (const attempt of [
          () => call.readMemory(0n, 8),
          () => call.readMemory(call.args[0] as bigint, 0),
          () => call.readMemory(call.args[0] as bigint, 65_537),
          () => call.readString(call.args[call.name === 'mkdirat' ? 1 : 0] as bigint, 3),
        ]) {
          await attempt().catch((error: unknown) => failures.push((error as { code: string }).code))
        }
        kept = call
        return { value: 0 }
      }),
    )
    expect(failures).toEqual([
      'ERR_OCI_SYSCALL',
      'ERR_OCI_INVALID_ARGUMENT',
      'ERR_OCI_INVALID_ARGUMENT',
      'ERR_OCI_LIMIT',
    ])
    await expect(kept?.readMemory(4096n, 8)).rejects.toMatchObject({ code: 'ERR_OCI_REMOTE_EXIT' })
  })

  it('goes away when a container is killed in the middle of a call', async () => {
    let asked = (): void => {}
    const waiting = new Promise<void>((resolve) => {
      asked = resolve
    })
    const { warnings } = await warningsDuring(async () => {
      const container = await sandbox.create(specOf(['mkdir', '/tmp/never']), {
        onSyscall: onMkdir(() => {
          asked()
          return new Promise(() => {})
        }),
        syscallTimeout: 200,
      })
      await container.start()
      await waiting
      await container.delete({ force: true })
      return { stdout: '', stderr: '', status: await container.exited }
    })
    expect(warnings).toEqual([])
  })

  it('can not be what no filter can have', async () => {
    const refused = async (onSyscall: SyscallHandlers, code: string, more = {}, spec: Spec = specOf(['true'])) =>
      expect(sandbox.create(spec, { onSyscall, ...more })).rejects.toMatchObject({ code })
    const go = async (): Promise<'continue'> => 'continue'
    const invalid = 'ERR_OCI_INVALID_ARGUMENT'
    await refused({ nothing: go }, invalid)
    await refused({ mkdirat: 'continue' as unknown as typeof go }, invalid)
    await refused({ mkdirat: go }, invalid, { detach: true })
    await refused({ mkdirat: go }, invalid, { handOver: true })
    await refused({ mkdirat: go }, invalid, { syscallTimeout: 0 })
    await refused({ mkdirat: go }, invalid, { learn: new Learning() })
    const seccomp = {
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [{ names: ['chmod'], action: 'SCMP_ACT_NOTIFY' }],
    } as const
    await refused({ mkdirat: go }, invalid, {}, specOf(['true'], { linux: { ...specOf([]).linux, seccomp } }))
  })
})
