import { closeSync, mkdirSync, openSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { ContainerProcessState, LinuxSeccomp, Spec } from '../../src/bundle/index.ts'
import { hostArchitecture } from '../../src/linux/architecture.ts'
import { call, out, struct } from '../../src/linux/call.ts'
import { ioctl } from '../../src/linux/calls/files.ts'
import { SOCK_CLOEXEC, SOCK_STREAM, socket } from '../../src/linux/calls/processes.ts'
import { accept, bindTo, listen } from '../../src/linux/calls/sockets.ts'
import { perform } from '../../src/linux/local.ts'
import { Remote } from '../../src/linux/remote/remote.ts'
import { syscallNumber } from '../../src/linux/syscall-numbers.ts'
import { start } from '../../src/runtime/index.ts'
import { cannotRun, Sandbox, specOf } from './support.ts'

const listening = 10
const RECEIVE = 0xc0502100
const SEND = 0xc0182101
const EDQUOT = 122
const CONTINUE = 1

/** What a seccomp agent is told, and what it answers with. It runs in a process of its own, which may block. */
class Agent implements AsyncDisposable {
  private readonly remote: Remote
  private listener = -1

  constructor(path: string) {
    const fd = perform(socket(1, SOCK_STREAM | SOCK_CLOEXEC, 0))
    const directory = openSync(dirname(path), 'r')
    try {
      perform(bindTo(fd, `/proc/self/fd/${directory}/${basename(path)}`))
      perform(listen(fd, 5))
      this.remote = Remote.spawn({ descriptors: new Map([[listening, fd]]) })
    } finally {
      closeSync(fd)
      closeSync(directory)
    }
  }

  /** Waits for the first message of a connection. */
  async hear(): Promise<{
    readonly state: ContainerProcessState
    readonly descriptors: number
    readonly ended: boolean
  }> {
    const text = out(65_536)
    const rights = out(64)
    const more = out(16)
    const vector = struct([text, text.size])
    const accepted = accept(listening)
    const header = struct([0, 0, vector, 1, rights, rights.size, 0])
    const received = call('recvmsg', [accepted, header, 0])
    const rest = call('read', [accepted, more, more.size])
    const results = await this.remote.run([accepted, received, rest])
    const control = results.bytes(rights)
    this.listener = control.readInt32LE(16)
    return {
      state: JSON.parse(results.bytes(text).toString('utf8', 0, results.value(received))),
      descriptors: (Number(control.readBigUInt64LE(0)) - 16) / 4,
      ended: results.value(rest) === 0,
    }
  }

  /** Waits for a call, and answers it. @returns the pid that made it, and its number. */
  async answer(error: number, flags: number): Promise<{ readonly pid: number; readonly number: number }> {
    const asked = out(80)
    const results = await this.remote.run([ioctl(this.listener, RECEIVE, asked)])
    const bytes = results.bytes(asked)
    const answer = Buffer.alloc(24)
    bytes.copy(answer, 0, 0, 8)
    answer.writeInt32LE(-error, 16)
    answer.writeUInt32LE(flags, 20)
    await this.remote.run([ioctl(this.listener, SEND, answer)])
    return { pid: bytes.readUInt32LE(8), number: bytes.readInt32LE(16) }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.remote.close()
  }
}

describe.skipIf(cannotRun)(`a seccomp agent (${cannotRun ?? 'beside real containers'})`, () => {
  let sandbox: Sandbox
  let count = 0
  let path: string
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  const seccompOf = (more: Partial<LinuxSeccomp> = {}): LinuxSeccomp => ({
    defaultAction: 'SCMP_ACT_ALLOW',
    listenerPath: path,
    listenerMetadata: 'mine',
    syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_NOTIFY' }],
    ...more,
  })
  const specFor = (script: string, more: Partial<LinuxSeccomp> = {}): Spec =>
    specOf(['sh', '-c', script], {
      annotations: { 'org.example.key': 'value' },
      linux: { ...specOf([]).linux, seccomp: seccompOf(more) },
    })
  const agent = (): Agent => {
    const directory = join(sandbox.directory, `agent-${++count}-${'x'.repeat(100)}`)
    mkdirSync(directory)
    // Longer than the address of a socket can be.
    path = join(directory, 'agent.sock')
    return new Agent(path)
  }

  it.each([true, false])(
    'is told who the container is, and answers for it (no_new_privs: %s)',
    async (noNewPrivileges) => {
      await using listener = agent()
      const spec = specFor(
        'mkdir /tmp/refused; mkdir /tmp/made && ls -d /tmp/made && rmdir /tmp/made; ls /proc/self/fd | wc -l',
      )
      const process = { ...specOf(['sh']).process, ...spec.process, noNewPrivileges } as NonNullable<Spec['process']>
      const id = sandbox.id()
      const running = sandbox.run({ ...spec, process }, { id })
      const heard = await listener.hear()
      expect(heard).toMatchObject({ descriptors: 1, ended: true })
      const { state } = heard
      expect(state).toEqual({
        ociVersion: '1.3.0',
        fds: ['seccompFd'],
        pid: expect.any(Number),
        metadata: 'mine',
        state: {
          ociVersion: spec.ociVersion,
          id,
          status: 'created',
          pid: state.pid,
          bundle: sandbox.bundle,
          annotations: { 'org.example.key': 'value' },
        },
      })
      const first = await listener.answer(EDQUOT, 0)
      await listener.answer(0, CONTINUE)
      const { stdout, stderr } = await running
      expect(first.number).toBeGreaterThan(0)
      expect(stderr).toMatch(/refused.*quota exceeded/i)
      // Nothing but the standard streams, and the directory that is read.
      expect(stdout).toBe('/tmp/made\n4\n')
    },
  )

  it('is told of the processes that enter the container later, too', async () => {
    await using listener = agent()
    const container = await sandbox.create(specFor('sleep 1000'))
    const started = container.start()
    const { state } = await listener.hear()
    await started
    expect(state.pid).toBe(container.pid)
    const entering = container.exec({ args: ['mkdir', '/tmp/by-exec'] }, {})
    const heard = await listener.hear()
    expect(heard.state.state).toMatchObject({ id: container.id, pid: container.pid, status: 'running' })
    expect(heard.state.pid).not.toBe(container.pid)
    const { pid } = await listener.answer(EDQUOT, 0)
    const entered = await entering
    expect(heard.state.pid).toBe(entered.pid)
    expect(pid).toBeGreaterThan(0)
    expect((await entered.exited).code).toBe(1)
    await container.delete({ force: true })
  })

  it('is told by a container that another process starts', async () => {
    await using listener = agent()
    const container = await sandbox.create(specFor('mkdir /tmp/x || exit 7'), { handOver: true })
    const { id } = container
    await container.release()
    const started = start(id, { stateRoot: sandbox.stateRoot })
    const { state } = await listener.hear()
    await started
    expect(state.state.id).toBe(id)
    await listener.answer(EDQUOT, 0)
    await container.delete({ force: true })
  })

  it('can be asked about the calls by which it is told, too', async () => {
    await using listener = agent()
    const syscalls = [{ names: ['sendmsg', 'dup3'], action: 'SCMP_ACT_NOTIFY' }] as const
    const container = await sandbox.create(specFor('ip addr add 127.0.0.2/8 dev lo || exit 7', { syscalls }))
    const [, { number }] = await Promise.all([
      container.start(),
      listener.hear().then(() => listener.answer(EDQUOT, 0)),
    ])
    expect(number).toBe(syscallNumber('sendmsg', hostArchitecture()))
    expect((await container.exited).code).toBe(7)
    await container.delete()
  })

  it('has to be there', async () => {
    path = join(sandbox.directory, 'nobody.sock')
    await expect(sandbox.create(specFor('true'))).rejects.toMatchObject({
      code: 'ERR_OCI_RUNTIME',
      step: 'connect to the seccomp listener',
      pointer: '/linux/seccomp/listenerPath',
      subject: path,
    })
  })

  it('can not be without a place, nor for all calls', async () => {
    path = '/x.sock'
    const refused = async (more: Partial<LinuxSeccomp>, code: string): Promise<void> =>
      expect(sandbox.create(specFor('true', more))).rejects.toMatchObject({ code })
    await refused({ listenerPath: '' }, 'ERR_OCI_INVALID_ARGUMENT')
    await refused({ defaultAction: 'SCMP_ACT_NOTIFY' }, 'ERR_OCI_INVALID_ARGUMENT')
  })
})
