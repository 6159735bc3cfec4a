import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Spec } from '../../src/bundle/index.ts'
import { delay } from '../../src/internal/abort.ts'
import { deleteContainer, kill, listContainers, state, wait } from '../../src/runtime/index.ts'
import { processStat } from '../../src/runtime/processes.ts'
import { cannotRun, cgroupsOf, Sandbox, specOf, until } from './support.ts'

const script = fileURLToPath(new URL('./child.ts', import.meta.url))
const resources = { memory: { limit: 64 << 20 }, pids: { limit: 50 } }

describe.skipIf(cannotRun)(`when the process that made a container is killed (${cannotRun ?? 'really'})`, () => {
  let sandbox: Sandbox
  const children: ChildProcess[] = []
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterAll(() => {
    for (const child of children) child.kill('SIGKILL')
    sandbox.remove()
  })

  interface Maker {
    readonly child: ChildProcess
    readonly id: string
    /** Of the container. */
    readonly pid: number
  }

  /** Starts a process that makes a container, and waits until it runs. */
  const make = async (spec: Spec, options: Readonly<Record<string, unknown>> = {}): Promise<Maker> => {
    const id = sandbox.id()
    const file = join(sandbox.directory, `${id}.json`)
    const { bundle, stateRoot } = sandbox
    writeFileSync(file, JSON.stringify({ id, spec, bundle, stateRoot, ...options }))
    const child = spawn(process.execPath, ['--import', 'tsx', script, file], { stdio: ['ignore', 'pipe', 'inherit'] })
    children.push(child)
    // One that repeats writes more, which is to be read: it would not end by a signal otherwise.
    const [line] = await once(createInterface({ input: child.stdout }), 'line')
    return { child, id, pid: Number(line) }
  }
  const isGone = (pid: number): boolean => ['Z', 'X', undefined].includes(processStat(pid)?.state)

  it('the container dies, and its monitor removes state and cgroup', async () => {
    const { child, id, pid } = await make(specOf(['sleep', '1000'], { linux: { resources } }))
    expect(isGone(pid)).toBe(false)
    expect(cgroupsOf(id)).not.toEqual([])
    child.kill('SIGKILL')
    await until('the container is gone', () => isGone(pid))
    await until('its state is gone', () => !existsSync(join(sandbox.stateRoot, id)))
    await until('its cgroup is gone', () => cgroupsOf(id).length === 0)
  })

  it('the container dies also when it has become another user', async () => {
    // A change of ids clears the parent-death signal.
    const capabilities = ['CAP_SETUID', 'CAP_SETGID', 'CAP_SYS_ADMIN']
    const sets = { bounding: capabilities, permitted: capabilities, effective: capabilities }
    const args = ['sh', '-c', 'exec su user -s /bin/sh -c "exec sleep 1000"']
    const { child, pid } = await make(specOf(args, { process: { capabilities: sets } }))
    await until('it is another user', () => /^Uid:\s+1000/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')))
    child.kill('SIGKILL')
    await until('the container is gone', () => isGone(pid))
  })

  it('the next process removes what is left when the monitor was killed, too', async () => {
    const { child, id, pid } = await make(specOf(['sleep', '1000'], { linux: { resources } }))
    const monitor = Number(/^PPid:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
    child.kill('SIGSTOP')
    process.kill(monitor, 'SIGKILL')
    child.kill('SIGKILL')
    await until('the container is gone', () => isGone(pid))
    await until('the maker is gone', () => child.exitCode !== null || child.signalCode !== null)
    expect(existsSync(join(sandbox.stateRoot, id))).toBe(true)
    const next = await make(specOf(['true']))
    expect(existsSync(join(sandbox.stateRoot, id))).toBe(false)
    expect(cgroupsOf(id)).toEqual([])
    await until('the next one ends', () => next.child.exitCode !== null)
  })

  it('the next process also removes what is let go of just after it has looked', async () => {
    const stateRoot = join(sandbox.directory, 'late')
    const left = join(stateRoot, 'left')
    mkdirSync(left, { recursive: true })
    const holder = spawn('flock', ['--no-fork', left, 'sh', '-c', 'echo held; exec sleep 1000'])
    children.push(holder)
    await once(holder.stdout, 'data')
    const container = await sandbox.create(specOf(['true']), { stateRoot })
    await container.delete()
    expect(existsSync(left)).toBe(true)
    holder.kill('SIGKILL')
    await until('it is gone', () => !existsSync(left))
  })

  it('an id that it had can be used again at once', async () => {
    const { child, id, pid } = await make(specOf(['sleep', '1000']))
    const monitor = Number(/^PPid:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
    process.kill(monitor, 'SIGKILL')
    child.kill('SIGKILL')
    await until('the maker is gone', () => child.exitCode !== null || child.signalCode !== null)
    await until('the container is gone', () => isGone(pid))
    const container = await sandbox.create(specOf(['true']), { id })
    await container.delete()
  })

  it('at any moment: nothing is left', async () => {
    for (let round = 0; round < 10; round++) {
      const { child, id } = await make(specOf(['true'], { linux: { resources } }), { repeat: true })
      await delay(Math.random() * 60)
      child.kill('SIGKILL')
      await until('the maker is gone', () => child.signalCode !== null)
      // The monitor removes it, or the next process does.
      await until('no process of it is left', () => processesOf(id).every(isGone))
    }
    const next = await make(specOf(['true']))
    await until('the next one ends', () => next.child.exitCode !== null)
    await until('its state is gone', () => readdirSync(sandbox.stateRoot).length === 0)
    await until('its cgroups are gone', () => cgroupsOf(sandbox.id().replace(/-\d+$/, '')).length === 0)
  })

  describe('and the container was detached', () => {
    it('goes on, and its end is recorded for others', async () => {
      const spec = specOf(['sh', '-c', 'trap "exit 7" TERM; while :; do sleep 0.05; done'], { linux: { resources } })
      const { child, id, pid } = await make(spec, { detach: true })
      child.kill('SIGKILL')
      await until('the maker is gone', () => child.signalCode !== null)
      const at = { stateRoot: sandbox.stateRoot }
      expect(await state(id, at)).toMatchObject({ id, status: 'running', pid, bundle: sandbox.bundle })
      await expect(deleteContainer(id, at)).rejects.toMatchObject({ code: 'ERR_OCI_CONFLICT' })
      const ended = wait(id, at)
      await kill(id, 'TERM', at)
      expect(await ended).toEqual({ code: 7, signal: undefined, oomKilled: false })
      expect(await wait(id, at)).toEqual({ code: 7, signal: undefined, oomKilled: false })
      expect(await state(id, at)).toMatchObject({ status: 'stopped' })
      await expect(kill(id, 'TERM', at)).rejects.toMatchObject({ code: 'ERR_OCI_CONFLICT' })
      await deleteContainer(id, at)
      await expect(state(id, at)).rejects.toMatchObject({ code: 'ERR_OCI_NOT_FOUND' })
      expect(cgroupsOf(id)).toEqual([])
    })

    it('goes on when the process lets go of it and ends', async () => {
      const { child, id } = await make(specOf(['sleep', '1000']), { detach: true, release: true })
      await until('the maker has ended', () => child.exitCode !== null)
      expect(child.exitCode).toBe(0)
      const at = { stateRoot: sandbox.stateRoot }
      expect(await state(id, at)).toMatchObject({ status: 'running' })
      await deleteContainer(id, { ...at, force: true })
      await expect(wait(id, at)).rejects.toMatchObject({ code: 'ERR_OCI_NOT_FOUND' })
    })
  })

  describe('and another process looks at its containers', () => {
    it('lists, signals and deletes them', async () => {
      const at = { stateRoot: sandbox.stateRoot }
      const { child, id, pid } = await make(specOf(['sleep', '1000']), { hold: true })
      expect((await listContainers(at)).map((each) => [each.id, each.status])).toEqual([[id, 'running']])
      await kill(id, 'KILL', at)
      await until('it has ended', () => isGone(pid))
      expect(await wait(id, at)).toEqual({ code: 137, signal: 'SIGKILL', oomKilled: false })
      await deleteContainer(id, at)
      expect(await listContainers(at)).toEqual([])
      child.kill('SIGKILL')
    })

    it('stops waiting when it is told so', async () => {
      const at = { stateRoot: sandbox.stateRoot }
      const { child, id, pid } = await make(specOf(['sleep', '1000']))
      const reason = new Error('enough')
      await expect(wait(id, { ...at, signal: AbortSignal.timeout(50) })).rejects.toThrow()
      await expect(wait(id, { ...at, signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
      expect(isGone(pid)).toBe(false)
      child.kill('SIGKILL')
      await until('it has ended', () => isGone(pid))
    })

    it.each(['../x', '', 'a/b'])('refuses the id %j', async (id) => {
      for (const verb of [state, wait, deleteContainer, kill]) {
        await expect(verb(id)).rejects.toMatchObject({ code: 'ERR_OCI_INVALID_ARGUMENT' })
      }
    })
  })
})

/** Processes whose cgroup or state directory is of a container with that id. */
function processesOf(id: string): readonly number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(`oci-ts-${id}`)
      } catch {
        return false
      }
    })
}
