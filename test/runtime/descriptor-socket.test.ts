import { closeSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { descriptorOut, receivedDescriptor, receiveMessage } from '../../src/linux/calls/descriptor-messages.ts'
import { SOCK_CLOEXEC, SOCK_STREAM, socket } from '../../src/linux/calls/processes.ts'
import { accept, bindTo, listen } from '../../src/linux/calls/sockets.ts'
import { perform, performFor } from '../../src/linux/local.ts'
import { cannotRun, Sandbox, specOf } from './support.ts'

describe.skipIf(cannotRun)(`a pidfd that is sent to a socket (${cannotRun ?? 'real containers'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  /** Waits at a socket while `send` sends to it. @returns the pid that the descriptor stands for. */
  const pidOf = async <T>(send: (path: string) => Promise<T>): Promise<{ readonly pid: number; readonly sent: T }> => {
    const path = join(sandbox.directory, 'socket')
    const listening = perform(socket(1, SOCK_STREAM | SOCK_CLOEXEC, 0))
    try {
      perform(bindTo(listening, path))
      perform(listen(listening, 1))
      const sent = await send(path)
      const connection = perform(accept(listening))
      const control = descriptorOut()
      const fd = receivedDescriptor(performFor(receiveMessage(connection, control)).bytes(control)) as number
      const info = readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')
      closeSync(fd)
      closeSync(connection)
      return { pid: Number(/^Pid:\s*(\d+)$/m.exec(info)?.[1]), sent }
    } finally {
      closeSync(listening)
      rmSync(path, { force: true })
    }
  }

  it('stands for the first process, and for one that is run in the container', async () => {
    const { pid, sent } = await pidOf((pidfdSocket) => sandbox.create(specOf(['sleep', '1000']), { pidfdSocket }))
    expect(pid).toBe(sent.pid)
    await sent.start()
    const execed = await pidOf((pidfdSocket) => sent.exec({ args: ['sleep', '1000'] }, { pidfdSocket }))
    expect(execed.pid).toBe(execed.sent.pid)
    await execed.sent[Symbol.asyncDispose]()
  })

  it('that nobody waits for is an error, and nothing is left', async () => {
    const pidfdSocket = join(sandbox.directory, 'nobody')
    const failed = sandbox.create(specOf(['sleep', '1000']), { pidfdSocket })
    await expect(failed).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME', step: 'hand over the pidfd' })
    const container = await sandbox.create(specOf(['sleep', '1000']))
    await container.start()
    const exec = container.exec({ args: ['sleep', '1000'] }, { pidfdSocket })
    await expect(exec).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME', step: 'hand over the pidfd' })
  })
})
