import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { Channel } from '../../src/linux/remote/channel.ts'
import { cannotRun, Sandbox, specOf } from './support.ts'

const paths = ['/proc/keys', '/sys/firmware', '/was/file', '/was/directory', '/was/nothing']
const script = 'for p in "$@"; do if [ -d $p ]; then echo $(ls $p); else echo $(cat $p 2>/dev/null); fi; done'

describe.skipIf(cannotRun)(`containers that are made one like the other (${cannotRun ?? 'real ones'})`, () => {
  let sandbox: Sandbox
  let was: string
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
    was = join(sandbox.rootfs, 'was')
  })
  afterAll(async () => {
    await sandbox.expectNothingLeft()
    await sandbox.remove()
  })

  const { linux } = specOf([])
  /** What a container can read at the masked paths. */
  const read = async (): Promise<string> => {
    const args = ['sh', '-c', script, 'sh', ...paths]
    const { stdout, status } = await sandbox.run(specOf(args, { linux: { ...linux, maskedPaths: paths } }))
    expect(status.code).toBe(0)
    return stdout.trim()
  }
  const reset = (): void => {
    rmSync(was, { recursive: true, force: true })
    mkdirSync(join(was, 'directory'), { recursive: true })
    writeFileSync(join(was, 'file'), 'secret')
    writeFileSync(join(was, 'directory', 'name'), 'secret')
  }

  it('have the batches of their first processes in one from the third on', async () => {
    reset()
    const run = vi.spyOn(Channel.prototype, 'run')
    const batches: number[] = []
    for (let i = 0; i < 5; i++) {
      run.mockClear()
      expect(await read()).toBe('')
      batches.push(run.mock.calls.filter(([calls]) => calls.some(({ name }) => name === 'move_mount')).length)
    }
    run.mockRestore()
    expect(batches).toEqual([2, 2, 1, 1, 1])
  })

  for (const [what, change] of Object.entries({
    'is there that was not': () => writeFileSync(join(was, 'nothing'), 'secret'),
    'is a directory that was a file': () => {
      rmSync(join(was, 'file'))
      mkdirSync(join(was, 'file', 'secret'), { recursive: true })
    },
    'is a file that was a directory': () => {
      rmSync(join(was, 'directory'), { recursive: true })
      writeFileSync(join(was, 'directory'), 'secret')
    },
    'is gone': () => rmSync(was, { recursive: true }),
  })) {
    it(`have what is masked hidden also when something ${what}`, async () => {
      reset()
      // Another environment is another plan.
      const args = ['sh', '-c', script, 'sh', ...paths]
      const spec = specOf(args, {
        process: { env: ['PATH=/bin', `CASE=${what}`] },
        linux: { ...linux, maskedPaths: paths },
      })
      const outputs: string[] = []
      for (let i = 0; i < 6; i++) {
        if (i === 4) change()
        const { stdout, status } = await sandbox.run(spec)
        expect(status.code).toBe(0)
        outputs.push(stdout.trim())
      }
      expect(outputs).toEqual(Array(6).fill(''))
    })
  }
})
