import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { ConflictError, InvalidArgumentError, NotFoundError, RuntimeError, TimeoutError } from '../../src/errors.ts'
import { type Container, wait } from '../../src/index.ts'
import { busyboxImage, cannotRunAsRoot } from './support/busybox.ts'
import { Sandbox } from './support/sandbox.ts'

const project = fileURLToPath(new URL('../..', import.meta.url))
const program = fileURLToPath(new URL('support/program.ts', import.meta.url))

describe.skipIf(cannotRunAsRoot)(`the life of a container of an image (${cannotRunAsRoot ?? 'real ones'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.prepare()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  it('has a name, an image, a process, and an end', async () => {
    const box = await sandbox.run(['sh', '-c', 'exit 42'], { name: 'box' })
    expect(box).toMatchObject({ name: 'box', image: { reference: 'docker.io/library/busybox:latest' } })
    expect(box.id).toMatch(/^[0-9a-f]{64}$/)
    expect(box.pid).toBeGreaterThan(0)
    expect(await box.exited).toEqual({ code: 42, signal: undefined, oomKilled: false })
    await box.remove()
  })

  it('is named by its id unless it is given a name', async () => {
    const box = await sandbox.run(['true'])
    expect(box.name).toBe(box.id.slice(0, 12))
    await box.remove()
  })

  it('writes to a layer of its own', async () => {
    expect((await sandbox.sh('echo changed > /etc/passwd; cat /etc/passwd')).stdout).toBe('changed\n')
    expect((await sandbox.sh('head -n1 /etc/passwd')).stdout).toBe('root:x:0:0:root:/root:/bin/sh\n')
  })

  it('stops by the signal it wants, with the code it gives', async () => {
    const script = 'trap "echo bye; exit 3" USR1; echo ready; while :; do sleep 0.01; done'
    const box = await sandbox.run(['sh', '-c', script], { ready: wait.log('ready'), stopSignal: 'USR1' })
    expect(await box.stop()).toMatchObject({ code: 3 })
    await box.remove()
  })

  it('stops by the signal its image wants', async () => {
    await sandbox.put('stops', busyboxImage({ config: { StopSignal: 'SIGINT' } }))
    const script = 'trap "exit 4" INT; echo ready; while :; do sleep 0.01; done'
    const box = await sandbox.engine.run('stops', { command: ['sh', '-c', script], ready: wait.log('ready') })
    expect(await box.stop()).toMatchObject({ code: 4 })
    await box.remove()
  })

  it('is killed when it does not stop in time', async () => {
    // The first process of a container takes no SIGTERM that it has no handler for.
    const box = await sandbox.run(['sleep', '1000'])
    const began = Date.now()
    expect(await box.stop({ timeout: '100ms' })).toMatchObject({ code: 137, signal: 'SIGKILL' })
    expect(Date.now() - began).toBeGreaterThanOrEqual(95)
    await box.remove()
  })

  it('stops, is removed and disposed of as often as one likes, at the same time, in any order', async () => {
    const box = await sandbox.run(['sleep', '1000'])
    await Promise.all([
      box.stop({ timeout: '5s' }),
      box.stop(),
      box.remove(),
      box[Symbol.asyncDispose](),
      box.remove(),
      box.stop(),
    ])
    await box.remove()
    expect(await box.stop()).toMatchObject({ code: 137 })
    await expect(box.kill()).rejects.toThrow(ConflictError)
  })

  it('takes signals while it runs, and refuses what is none', async () => {
    const box = await sandbox.run(['sh', '-c', 'trap "echo got it" HUP; echo ready; while :; do sleep 0.01; done'], {
      ready: wait.log('ready'),
    })
    await box.kill('SIGHUP')
    for await (const { text } of box.logs({ follow: true })) if (text === 'got it') break
    await expect(box.kill('SIGNONSENSE')).rejects.toThrow(InvalidArgumentError)
    await expect(box.stop({ signal: 'SIGNONSENSE' })).rejects.toThrow(InvalidArgumentError)
    await expect(box.stop({ timeout: -1 })).rejects.toThrow(InvalidArgumentError)
    await box.kill()
    expect(await box.exited).toMatchObject({ signal: 'SIGKILL' })
    await expect(box.kill('HUP')).rejects.toThrow(ConflictError)
    await box.remove()
  })

  it.each([false, true])('reaches all its processes, and tells what they used (detached: %s)', async (detach) => {
    const loop = 'while :; do sleep 0.01; done'
    const script = `(trap "echo child; exit" TERM; echo r1; ${loop}) & trap "wait; echo first; exit 5" TERM; echo r2; ${loop}`
    await using box = await sandbox.run(['sh', '-c', script], {
      detach,
      ready: wait.all(wait.log('r1'), wait.log('r2')),
    })
    await box.kill('TERM', { all: true })
    expect((await box.exited).code).toBe(5)
    const lines: string[] = []
    for await (const { text } of box.logs()) lines.push(text)
    expect(lines).toEqual(expect.arrayContaining(['child', 'first']))
    const used = await box.usage()
    expect((used?.userTime ?? 0) + (used?.systemTime ?? 0)).toBeGreaterThan(0)
    expect(used?.maxResident).toBeGreaterThan(100_000)
    // The first one was the last, as it was of a pid namespace.
    await expect(box.kill('TERM', { all: true })).rejects.toThrow(ConflictError)
  })

  it('rejects with the reason of an abort, at whatever moment it comes', { timeout: 120_000 }, async () => {
    const reason = new Error('changed my mind')
    await expect(sandbox.run(['true'], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    let aborted = 0
    for (let tenth = 0; tenth < 200; tenth += 3) {
      const controller = new AbortController()
      const end = performance.now() + tenth / 10
      const made = sandbox.run(['sleep', '1000'], { signal: controller.signal, memory: '64m', stdin: 'pipe' })
      while (performance.now() < end) await new Promise((resolve) => setImmediate(resolve))
      controller.abort(reason)
      const outcome: unknown = await made.catch((error: unknown) => error)
      if (outcome === reason) aborted++
      else await (outcome as Container).remove()
    }
    expect(aborted).toBeGreaterThan(10)
  })

  it('rejects with the reason of an abort while it is not ready', async () => {
    const controller = new AbortController()
    const reason = new Error('enough')
    const made = sandbox.run(['sh', '-c', 'echo up; sleep 1000'], {
      signal: controller.signal,
      ready: {
        name: 'own',
        async wait(target, signal) {
          for await (const { text } of target.logs({ follow: true, signal }))
            if (text === 'up') controller.abort(reason)
        },
      },
    })
    await expect(made).rejects.toBe(reason)
  })

  it('has a time to start in', async () => {
    const made = sandbox.run(['sleep', '1000'], { timeout: 0 })
    await expect(made).rejects.toThrow(TimeoutError)
    await expect(made).rejects.toMatchObject({ code: 'ERR_OCI_TIMEOUT' })
  })

  it.each([
    [['nonsense'], { message: expect.stringContaining('nonsense'), step: 'find the program' }],
    [['/etc/passwd'], { message: expect.stringContaining('/etc/passwd') }],
    [['/bin'], { message: expect.stringContaining('/bin') }],
  ])('fails for the command %j, by name', async (command, expected) => {
    const made = sandbox.run(command)
    await expect(made).rejects.toThrow(RuntimeError)
    await expect(made).rejects.toMatchObject(expected)
  })

  it('fails for an unknown user or group, by name', async () => {
    const user = sandbox.run(['true'], { user: 'nobody-here' })
    await expect(user).rejects.toThrow(NotFoundError)
    await expect(user).rejects.toMatchObject({ subject: 'nobody-here' })
    await expect(sandbox.run(['true'], { user: 'user:nogroup' })).rejects.toThrow(NotFoundError)
    await expect(sandbox.run(['true'], { groups: ['nogroup'] })).rejects.toThrow(NotFoundError)
  })

  it('runs as the user of the image or the option', async () => {
    expect((await sandbox.sh('id', { user: 'user' })).stdout).toBe(
      'uid=1000(user) gid=1000(user) groups=50(staff),1000(user)\n',
    )
    expect((await sandbox.sh('id; echo from > /dev/stdout', { user: '12:34' })).stdout).toBe(
      'uid=12 gid=34 groups=34\nfrom\n',
    )
  })

  it('fails for a bind mount of what is not there', async () => {
    const made = sandbox.run(['true'], { mounts: [{ type: 'bind', source: '/no/such/path', target: '/mnt' }] })
    await expect(made).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME', message: expect.stringContaining('/mnt') })
  })

  it('fails before anything is done for options that can not be', async () => {
    const bad: Parameters<Sandbox['run']>[1][] = [
      { timeout: -1 },
      { stopTimeout: Number.NaN },
      { stopSignal: 'SIGNONSENSE' },
      { logSize: -5 },
      { stdin: 'pipe', input: 'text' },
      { stdin: 'inherit' as 'none' },
      { pull: 'maybe' as 'never' },
      { input: 5 as unknown as string },
    ]
    for (const options of bad) await expect(sandbox.run(['true'], options)).rejects.toThrow(InvalidArgumentError)
  })

  it('fails for a stop signal of the image that is none', async () => {
    await sandbox.put('nonsense', busyboxImage({ config: { StopSignal: 'SIGNONSENSE' } }))
    await expect(sandbox.engine.run('nonsense')).rejects.toMatchObject({ code: 'ERR_OCI_INVALID_ARGUMENT' })
  })

  it('runs eight at once', async () => {
    const outcomes = await Promise.all(Array.from({ length: 8 }, (_, n) => sandbox.sh(`echo ${n}; exit ${n}`)))
    expect(outcomes).toEqual(Array.from({ length: 8 }, (_, n) => ({ stdout: `${n}\n`, code: n })))
  })

  it('is changed by configure before it is made', async () => {
    const { stdout } = await sandbox.sh('hostname', { configure: (spec) => ({ ...spec, hostname: 'configured' }) })
    expect(stdout).toBe('configured\n')
  })

  it.each([
    ['ended', 'a container that ended and was not removed', 0],
    ['removed', 'a container that was removed', 0],
    ['running', 'a container that runs: the process goes on until it ends', 7],
    ['failed', 'a run that failed', 0],
    ['ready', 'a container that was ready, and stopped', 0],
  ])('lets a program end by itself (%s): %s', async (mode, _, code) => {
    const began = Date.now()
    const node = promisify(execFile)(process.execPath, ['--import', 'tsx', program, sandbox.directory, mode], {
      cwd: project,
    })
    if (code === 0) {
      await node
      // Ten seconds are what a forgotten timer of `stop` would take.
      expect(Date.now() - began).toBeLessThan(8000)
    } else await expect(node).rejects.toMatchObject({ code })
    // Its writable layer is left to the next one that opens the store, when it did not remove it.
    await sandbox.reopen()
  })
})
