import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, openSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { createContainer, deleteContainer, type RuntimeContainer, state } from '../../src/runtime/index.ts'
import { cannotRun, Sandbox, specOf, until } from './support.ts'

describe.skipIf(cannotRun)(`a further process (${cannotRun ?? 'in real containers'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  /** A container that runs until it is deleted. */
  async function running(): Promise<RuntimeContainer> {
    const container = await sandbox.create(specOf(['sleep', '1000']))
    await container.start()
    return container
  }

  it.each(['../x', '/../../x', 'a/../../b'])('refuses the cgroup %s', async (cgroup) => {
    const container = await running()
    await expect(container.exec({ args: ['true'] }, { cgroup })).rejects.toMatchObject({
      code: 'ERR_OCI_INVALID_ARGUMENT',
    })
    await container.delete({ force: true })
  })

  it.each(['/proc/self/fd/3', '/proc/self/fd/4', '/proc/self/fd/7', '/proc/self/fd/248', '/proc/self/cwd', '/link'])(
    'does not work in %s (CVE-2024-21626)',
    async (cwd) => {
      const leak = openSync('/', 'r')
      symlinkSync('/proc/self/fd/7', join(sandbox.rootfs, 'link'))
      const container = await running()
      try {
        await expect(container.exec({ args: ['pwd'], cwd })).rejects.toMatchObject({
          code: 'ERR_OCI_RUNTIME',
          step: 'enter the working directory',
          pointer: '/process/cwd',
        })
      } finally {
        closeSync(leak)
        rmSync(join(sandbox.rootfs, 'link'))
      }
      await container.delete({ force: true })
    },
  )

  it('is killed when the process that made it is, in a container that goes on', async () => {
    const { bundle, stateRoot } = sandbox
    const container = await createContainer({
      id: sandbox.id(),
      spec: specOf(['sleep', '1000']),
      bundle,
      stateRoot,
      detach: true,
    })
    await container.start()
    await container.release()
    const program = fileURLToPath(new URL('fixtures/exec-child.ts', import.meta.url))
    const child = spawn(process.execPath, ['--import', 'tsx', program, stateRoot, container.id], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [line] = (await once(child.stdout, 'data')) as [Buffer]
    const pid = Number(line.toString())
    expect(readFileSync(`/proc/${pid}/comm`, 'utf8')).toBe('sleep\n')
    child.kill('SIGKILL')
    await until('it has ended', () => !existsSync(`/proc/${pid}/root/bin`))
    expect((await state(container.id, { stateRoot })).status).toBe('running')
    await deleteContainer(container.id, { force: true, stateRoot })
  })
})
