import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { ConflictError, InvalidArgumentError, NotFoundError, RuntimeError, StartupError } from '../../src/errors.ts'
import { wait } from '../../src/index.ts'
import { delay } from '../../src/internal/abort.ts'
import { cannotRunAsRoot } from './support/busybox.ts'
import { linesOf, Sandbox } from './support/sandbox.ts'

const project = fileURLToPath(new URL('../..', import.meta.url))
const program = fileURLToPath(new URL('support/detacher.ts', import.meta.url))

describe.skipIf(cannotRunAsRoot)(`detached containers (${cannotRunAsRoot ?? 'real ones'})`, () => {
  let sandbox: Sandbox
  const children: ChildProcess[] = []
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.prepare()
    const box = await sandbox.run(['true'], { detach: true })
    await box.exited
    await box.remove()
  })
  afterEach(async () => {
    await sandbox.expectNothingLeft()
    expect(await sandbox.engine.containers()).toEqual([])
  })
  afterAll(async () => {
    for (const child of children) child.kill('SIGKILL')
    for (const { id } of await sandbox.engine.containers()) await (await sandbox.engine.attach(id)).remove()
    sandbox.remove()
  })

  /** Runs a container in a process of its own, which ends. @returns the container's id. */
  async function runElsewhere(name: string, script: string, end: 'exit' | 'kill'): Promise<string> {
    const mode = end === 'exit' ? 'exit' : 'hold'
    const args = ['--import', 'tsx', program, sandbox.directory, sandbox.cgroup(), name, script, mode]
    const child = spawn(process.execPath, args, { cwd: project, stdio: ['ignore', 'pipe', 'inherit'] })
    children.push(child)
    const closed = once(child, 'close') as Promise<[number | null, string | null]>
    let text = ''
    child.stdout.on('data', (bytes: Buffer) => {
      text += bytes.toString()
      if (end === 'kill') child.kill('SIGKILL')
    })
    expect(await closed).toEqual(end === 'exit' ? [0, null] : [null, 'SIGKILL'])
    return text.trim()
  }

  const loop = 'n=0; while :; do n=$((n+1)); [ $n -lt 4 ] && echo tick $n; sleep 0.05; done'

  it.each(['exit', 'kill'] as const)('outlive the process that ran them (%s)', { timeout: 60_000 }, async (end) => {
    const script = `trap "echo bye >&2; exit 5" USR1; echo up; ${loop}`
    const id = await runElsewhere('box', script, end)
    // What opens the store next removes what dead processes left: not this.
    await sandbox.reopen()
    expect(await sandbox.engine.containers()).toMatchObject([
      { id, name: 'box', image: 'docker.io/library/busybox:latest', status: 'running' },
    ])
    const box = await sandbox.engine.attach('box')
    expect(box).toMatchObject({ id, name: 'box', image: { reference: 'docker.io/library/busybox:latest' } })
    expect(existsSync(`/proc/${box.pid}`)).toBe(true)
    const followed: string[] = []
    for await (const { stream, text } of box.logs({ follow: true })) {
      followed.push(`${stream}: ${text}`)
      if (text === 'tick 3') break
    }
    expect(followed).toEqual(['stdout: up', 'stdout: tick 1', 'stdout: tick 2', 'stdout: tick 3'])
    expect(await linesOf(box, { tail: 2 })).toEqual(['stdout: tick 2', 'stdout: tick 3'])

    const rest = linesOf(box, { follow: true, tail: 1 })
    // By the signal that the other process was told to use.
    expect(await (await sandbox.engine.attach(id)).stop()).toEqual({ code: 5, signal: undefined, oomKilled: false })
    expect(await rest).toEqual(['stdout: tick 3', 'stderr: bye'])
    expect(await box.exited).toEqual({ code: 5, signal: undefined, oomKilled: false })
    await expect(box.kill()).rejects.toThrow(ConflictError)
    expect(await sandbox.engine.containers()).toMatchObject([{ id, status: 'stopped' }])
    const late = await sandbox.engine.attach(id)
    expect(await late.exited).toMatchObject({ code: 5 })
    expect((await linesOf(late)).length).toBe(5)
    await late.remove()
    await box.remove()
    await expect(sandbox.engine.attach(id)).rejects.toThrow(NotFoundError)
    await expect(linesOf(box)).rejects.toThrow(NotFoundError)
    await expect(box.kill()).rejects.toThrow(NotFoundError)
    expect(await box.stop()).toMatchObject({ code: 5 })
  })

  it('are handled by the process that ran them like others', async () => {
    const script = 'echo out; echo err >&2; read line || echo no input; sleep 0.2; echo late; exit 6'
    const box = await sandbox.run(['sh', '-c', script], { detach: true })
    expect(box.stdin).toBeUndefined()
    const chunks: Buffer[] = []
    for await (const chunk of box.stdout) chunks.push(chunk as Buffer)
    expect(Buffer.concat(chunks).toString()).toBe('out\nno input\nlate\n')
    expect(await box.exited).toMatchObject({ code: 6 })
    expect((await linesOf(box)).toSorted()).toEqual(['stderr: err', 'stdout: late', 'stdout: no input', 'stdout: out'])
    expect(await linesOf(box, { tail: 0 })).toEqual([])
    const directory = join(sandbox.root, 'containers', box.id)
    for (const name of ['stdout.log', 'stderr.log', 'container.json']) {
      expect(statSync(join(directory, name)).mode & 0o777).toBe(0o600)
    }
    await Promise.all([box.remove(), box.remove(), (await sandbox.engine.attach(box.id)).remove()])
  })

  it('are killed by remove, and tell how they ended', async () => {
    const box = await sandbox.run(['sleep', '1000'], { detach: true, memory: '64m' })
    const other = await sandbox.engine.attach(box.id)
    await box.remove()
    expect(await box.exited).toMatchObject({ code: 137, signal: 'SIGKILL' })
    expect(await other.exited).toMatchObject({ code: 137 })
    await other.remove()
  })

  it('may write to /dev/stdout by its name as any user', async () => {
    const box = await sandbox.run(['sh', '-c', 'echo one; echo two >> /dev/stdout'], { detach: true, user: '12:34' })
    expect(await box.exited).toMatchObject({ code: 0 })
    expect(await linesOf(box)).toEqual(['stdout: one', 'stdout: two'])
    await box.remove()
  })

  it('have names of their own, also when they are run at the same time', async () => {
    const runs = await Promise.allSettled(
      [1, 2, 3].map(() => sandbox.run(['sleep', '1000'], { detach: true, name: 'same' })),
    )
    const made = runs.flatMap((run) => (run.status === 'fulfilled' ? [run.value] : []))
    expect(made.length).toBe(1)
    for (const run of runs) if (run.status === 'rejected') expect(run.reason).toBeInstanceOf(ConflictError)
    // Those that die with their process have no part in it.
    const attached = await sandbox.run(['true'], { name: 'same' })
    await attached.remove()
    await made[0]?.remove()
    const again = await sandbox.run(['true'], { detach: true, name: 'same' })
    await again.remove()
  })

  it('leave nothing when they fail to start, or are not ready, or are given up', async () => {
    await expect(sandbox.run(['nonsense'], { detach: true })).rejects.toThrow(RuntimeError)
    const unready = sandbox.run(['sh', '-c', 'echo broken >&2; exit 3'], { detach: true, ready: wait.log('never') })
    await expect(unready).rejects.toThrow(StartupError)
    await expect(unready).rejects.toMatchObject({ exit: { code: 3 }, logs: ['broken'] })
    const late = sandbox.run(['sleep', '1000'], { detach: true, ready: wait.log('never'), timeout: 300 })
    await expect(late).rejects.toThrow(StartupError)
    const controller = new AbortController()
    const given = sandbox.run(['sleep', '1000'], { detach: true, ready: wait.log('x'), signal: controller.signal })
    controller.abort(new Error('enough'))
    await expect(given).rejects.toThrow('enough')
  })

  it('can be found and removed when the process that makes them is killed meanwhile', { timeout: 60_000 }, async () => {
    for (const name of ['first', 'second', 'third']) {
      const args = ['--import', 'tsx', program, sandbox.directory, sandbox.cgroup(), name, 'sleep 1000', 'hold']
      const child = spawn(process.execPath, args, { cwd: project, stdio: 'ignore' })
      children.push(child)
      const closed = once(child, 'close')
      const end = Date.now() + 30_000
      while ((await sandbox.engine.containers()).length === 0 && Date.now() < end) await delay(1)
      child.kill('SIGKILL')
      await closed
      const box = await sandbox.engine.attach(name)
      await box.remove()
      expect(await box.exited).toMatchObject({ code: 137 })
    }
  })

  it('end their log for whoever follows it when the signal says so', async () => {
    const box = await sandbox.run(['sleep', '1000'], { detach: true })
    const controller = new AbortController()
    const lines = linesOf(box, { follow: true, signal: controller.signal })
    controller.abort(new Error('enough'))
    await expect(lines).rejects.toThrow('enough')
    await box.remove()
  })

  it('have no input, and are found by what they are called only', async () => {
    for (const bad of [{ stdin: 'pipe' }, { input: 'text' }] as const) {
      await expect(sandbox.run(['true'], { detach: true, ...bad })).rejects.toThrow(InvalidArgumentError)
    }
    const attached = await sandbox.run(['sleep', '1000'], { name: 'attached' })
    for (const name of ['attached', attached.id, '', '../..']) {
      await expect(sandbox.engine.attach(name)).rejects.toThrow(NotFoundError)
    }
    await attached.remove()
  })
})
