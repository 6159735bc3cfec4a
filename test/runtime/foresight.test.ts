import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { type Call, call, struct } from '../../src/linux/call.ts'
import { Channel } from '../../src/linux/remote/channel.ts'
import { dismissSpares } from '../../src/linux/remote/spares.ts'
import { RuntimeContainer } from '../../src/runtime/container.ts'
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

  it('have a monitor that is told at once to wait for their end, and name what it fails at', async () => {
    const spec = specOf(['true'], { process: { env: ['PATH=/bin', 'CASE=monitor'] } })
    const original = Channel.prototype.run
    let position = -1
    let named: string | undefined
    let size = 0
    let answers = 0
    const run = vi.spyOn(Channel.prototype, 'run').mockImplementation(function (this: Channel, calls, options) {
      answers++
      if (position < 0 || !calls.some(({ name }) => name === 'clone3')) return original.call(this, calls, options)
      const { step, pointer } = calls[position] as Call
      named = step
      size = calls.findIndex(({ name }) => name === 'clone3') + 6
      // The descriptor is none: the kernel refuses with EBADF.
      const broken = call('close', [-1], { ...(step && { step }), ...(pointer && { pointer }) })
      return original.call(this, calls.toSpliced(position, 0, broken), options)
    })
    try {
      const counts: number[] = []
      for (let i = 0; i < 4; i++) {
        answers = 0
        expect((await sandbox.run(spec)).status.code).toBe(0)
        counts.push(answers)
      }
      // From the third on its first process is asked to set up and to start, and the monitor once.
      expect(counts).toEqual([5, 5, 3, 3])
      for (position = 0; position <= size; position++) {
        const error = await sandbox.run(spec).catch((reason: unknown) => reason)
        expect(error, `at ${position}`).toMatchObject({ code: 'ERR_OCI_RUNTIME', step: named ?? 'close' })
        await sandbox.expectNothingLeft()
      }
      expect(size).toBeGreaterThan(6)
    } finally {
      run.mockRestore()
    }
    expect((await sandbox.run(spec)).status.code).toBe(0)
  })

  it('have one socket for their first processes, of which a program gets nothing', async () => {
    const spec = specOf(['sh', '-c', 'ls -l /proc/self/fd | grep -c socket; ls -l /proc/self/fd | grep -c pipe'])
    dismissSpares(0)
    const welcome = vi.spyOn(Channel.prototype, 'welcome')
    try {
      const outputs: string[] = []
      for (let i = 0; i < 6; i++) outputs.push((await sandbox.run(spec)).stdout)
      // The pipe of ls and grep.
      expect(outputs).toEqual(Array(6).fill('0\n1\n'))
      expect(welcome.mock.results.map(({ value }) => value)).toEqual([true, true, true])
    } finally {
      welcome.mockRestore()
    }
  })

  it.each([
    ['that was killed before its start', false],
    ['that was killed before it had read what it was to start', true],
  ])('have nothing to do with a first process %s', async (what, isTold) => {
    const spec = specOf(['sh', '-c', 'echo $CASE'], { process: { env: ['PATH=/bin', `CASE=${what}`] } })
    const path = join(sandbox.directory, 'stdout')
    const stdout = openSync(path, 'w+')
    const stdio = [undefined, stdout, stdout] as const
    /** All of them have as many descriptors, so that they have one monitor. */
    const create = (): Promise<RuntimeContainer> => sandbox.create(spec, { stdio })
    const run = async (): Promise<void> => {
      const container = await create()
      await container.start()
      expect(await container.exited).toMatchObject({ code: 0 })
      await container.delete()
    }
    for (let i = 0; i < 3; i++) await run()
    const welcome = vi.spyOn(Channel.prototype, 'welcome')
    for (let i = 0; i < 3; i++) {
      const container = await create()
      process.kill(container.pid, isTold ? 'SIGSTOP' : 'SIGKILL')
      if (isTold) {
        const started = container.start()
        process.kill(container.pid, 'SIGKILL')
        await started
      } else {
        await container.exited
        await expect(container.start()).rejects.toMatchObject({ code: 'ERR_OCI_CONFLICT' })
      }
      expect(await container.exited).toMatchObject({ code: 137, signal: 'SIGKILL' })
      await container.delete()
      await run()
    }
    const welcomed = welcome.mock.results.map(({ value }) => value as boolean)
    welcome.mockRestore()
    closeSync(stdout)
    await sandbox.expectNothingLeft()
    // What the killed one had not read goes with its socket; a new one is made then.
    expect(welcomed.filter((value) => !value)).toHaveLength(isTold ? 3 : 0)
    expect(welcomed.length).toBeGreaterThanOrEqual(6)
    expect(readFileSync(path, 'utf8')).toBe(`${what}\n`.repeat(6))
  })

  it('have a start that ends also when the monitor fails after it has made the first process', async () => {
    const spec = specOf(['sleep', '100'], { process: { env: ['PATH=/bin', 'CASE=late'] } })
    for (let i = 0; i < 3; i++) await (await sandbox.create(spec)).delete({ force: true })
    const original = Channel.prototype.run
    const run = vi.spyOn(Channel.prototype, 'run').mockImplementation(function (this: Channel, calls, options) {
      const last = calls.findIndex(({ name, step }) => name === 'chdir' && step === 'detach the monitor')
      if (last === -1) return original.call(this, calls, options)
      // It stops for a moment, in which the first process is set up, and fails then.
      const pause = call('ppoll', [0, 0, struct([0, 200_000_000]), 0, 0])
      return original.call(this, calls.toSpliced(last, 0, pause, call('close', [-1])), options)
    })
    try {
      const container = await sandbox.create(spec)
      await container.start().catch((error: unknown) => expect(error).toMatchObject({ code: 'ERR_OCI_RUNTIME' }))
      expect(await container.exited).toMatchObject({ code: 137 })
      await container.delete()
    } finally {
      run.mockRestore()
    }
    await sandbox.expectNothingLeft()
  })

  it('leave nothing behind when they are aborted while they are made', async () => {
    const spec = specOf(['true'], { process: { env: ['PATH=/bin', 'CASE=abort'] } })
    for (let i = 0; i < 3; i++) expect((await sandbox.run(spec)).status.code).toBe(0)
    for (let microseconds = 0; microseconds < 4000; microseconds += 200) {
      const abort = new AbortController()
      const made = sandbox.create(spec, { signal: abort.signal }).catch((reason: unknown) => reason)
      const until = performance.now() + microseconds / 1000
      while (performance.now() < until) await new Promise((resolve) => setImmediate(resolve))
      abort.abort(new Error('enough'))
      const outcome = await made
      if (outcome instanceof RuntimeContainer) await outcome.delete({ force: true })
      else expect(outcome).toMatchObject({ message: 'enough' })
      await sandbox.expectNothingLeft()
    }
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
