import { closeSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { cannotRun, descriptorSentTo, Sandbox, specOf } from './support.ts'

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
    const { fd, sent } = await descriptorSentTo(join(sandbox.directory, 'socket'), send)
    const info = readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')
    closeSync(fd)
    return { pid: Number(/^Pid:\s*(\d+)$/m.exec(info)?.[1]), sent }
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
