import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { LinuxSeccomp } from '../../src/bundle/index.ts'
import { cannotRun, Sandbox, type SpecChanges, specOf } from './support.ts'

describe.skipIf(cannotRun)(`a container that can't be made or started (${cannotRun ?? 'really'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
    const file = (name: string, content: string, mode: number): void => {
      writeFileSync(join(sandbox.rootfs, name), content)
      chmodSync(join(sandbox.rootfs, name), mode)
    }
    file('not-executable', '#!/bin/sh\n', 0o644)
    file('no-interpreter', '#!/no/such/interpreter\n', 0o755)
    file('no-format', 'what is this?', 0o755)
    file('private', '#!/bin/sh\n', 0o700)
    mkdirSync(join(sandbox.rootfs, 'directory'))
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  const failure = (args: readonly string[], changes: SpecChanges = {}): Promise<unknown> =>
    sandbox.run(specOf(args, changes)).catch((error: unknown) => error)

  it.each([
    ['a missing command', 'missing', 'find the program', '/process/args/0', /not found.*\/bin\/missing/s],
    ['a missing path', '/bin/missing', 'find the program', '/process/args/0', /\/bin\/missing/],
    [
      'a file without execute permission',
      '/not-executable',
      'find the program',
      '/process/args/0',
      /permission denied/,
    ],
    ['a directory', '/directory', 'execute /directory', '/process/args', /permission/],
    [
      'an interpreter that does not exist',
      '/no-interpreter',
      'execute /no-interpreter',
      '/process/args',
      /interpreter/,
    ],
    ['a file of no known format', '/no-format', 'execute /no-format', '/process/args', /platform/],
  ])('says so of %s', async (_, name, step, pointer, message) => {
    const error = await failure([name])
    expect(error).toMatchObject({ code: 'ERR_OCI_RUNTIME', step, pointer })
    expect(error).toMatchObject({ message: expect.stringMatching(message) })
  })

  it('says so of a program that its user may not execute', async () => {
    const error = await failure(['/private'], { process: { user: { uid: 1000, gid: 1000 } } })
    expect(error).toMatchObject({ step: 'execute /private', hint: expect.stringContaining('permission') })
  })

  describe.each(['SCMP_ACT_ERRNO', 'SCMP_ACT_KILL_PROCESS'] as const)(
    'under a filter that answers %s',
    (defaultAction) => {
      // Not even the end of a process is among them, nor what a failure could be told by.
      const seccomp: LinuxSeccomp = {
        defaultAction,
        syscalls: [{ names: ['execve', 'capset'], action: 'SCMP_ACT_ALLOW' }],
      }
      const linux = { ...specOf([]).linux, seccomp }

      it.each([true, false])('says so of what is no program (no_new_privs: %s)', async (noNewPrivileges) => {
        const changes = { process: { capabilities: {}, noNewPrivileges }, linux }
        const expected = { code: 'ERR_OCI_RUNTIME', step: 'execute /no-format', pointer: '/process/args' }
        expect(await failure(['/no-format'], changes)).toMatchObject(expected)
      })

      it('says so of what is refused on the way to the program', async () => {
        const refused = {
          ...seccomp,
          syscalls: [{ names: ['capset'], action: 'SCMP_ACT_ERRNO', errnoRet: 13 }],
        } as const
        const changes = { process: { capabilities: {}, noNewPrivileges: false }, linux: { ...linux, seccomp: refused } }
        const error = await failure(['true'], changes)
        expect(error).toMatchObject({ code: 'ERR_OCI_RUNTIME', step: 'set the capabilities' })
      })
    },
  )

  it('says so of what enters a container under a filter that refuses all that it could be told by', async () => {
    const names = ['sendto', 'write', 'exit', 'exit_group', 'recvfrom']
    const seccomp: LinuxSeccomp = { defaultAction: 'SCMP_ACT_ALLOW', syscalls: [{ names, action: 'SCMP_ACT_ERRNO' }] }
    const container = await sandbox.create(specOf(['sleep', '1000'], { linux: { ...specOf([]).linux, seccomp } }))
    await container.start()
    await expect(container.exec({ args: ['/no-format'] })).rejects.toMatchObject({ step: 'execute /no-format' })
    await container.delete({ force: true })
  })

  it('says so of a working directory that is a file', async () => {
    const error = await failure(['true'], { process: { cwd: '/bin/busybox' } })
    expect(error).toMatchObject({
      step: 'enter the working directory',
      pointer: '/process/cwd',
      hint: expect.any(String),
    })
  })

  it('says so when there is no command', async () => {
    expect(await failure([])).toMatchObject({ code: 'ERR_OCI_INVALID_ARGUMENT', subject: '/process/args' })
    expect(await failure([''])).toMatchObject({ code: 'ERR_OCI_INVALID_ARGUMENT' })
  })

  it('says so when the config has no process, at start', async () => {
    const { process: _, ...spec } = specOf(['true'])
    const container = await sandbox.create(spec)
    await expect(container.start()).rejects.toMatchObject({ code: 'ERR_OCI_INVALID_ARGUMENT', subject: '/process' })
    expect(container.state.status).toBe('created')
    await container.delete()
  })

  it('has stopped when its start failed', async () => {
    const container = await sandbox.create(specOf(['/no-format']))
    await expect(container.start()).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME' })
    expect(container.state.status).toBe('stopped')
    await container.delete()
  })

  it('says what this version does not do, instead of leaving it out', async () => {
    const unsupported: readonly SpecChanges[] = [{ process: { apparmorProfile: 'docker-default' } }]
    for (const changes of unsupported) {
      expect(await failure(['true'], changes)).toMatchObject({ code: 'ERR_OCI_UNSUPPORTED' })
    }
  })

  it('says so of a root filesystem that is missing', async () => {
    expect(await failure(['true'], { root: { path: '/no/such/root' } })).toMatchObject({
      step: 'prepare the root filesystem',
      pointer: '/root/path',
    })
  })

  it('says so of a memory limit that leaves no room for its start', async () => {
    const resources = { memory: { limit: 4096, swap: 4096 } }
    expect(await failure(['true'], { linux: { resources } })).toMatchObject({
      code: 'ERR_OCI_RUNTIME',
      hint: expect.stringContaining('memory limit'),
    })
  })
})
