import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { ConflictError, InvalidArgumentError, UnsupportedError } from '../../src/errors.ts'
import { out } from '../../src/linux/call.ts'
import { PR, prctl, WNOHANG, wait4 } from '../../src/linux/calls/processes.ts'
import { perform, performFor } from '../../src/linux/local.ts'
import { deleteContainer, exec, kill, type RuntimeContainer, start, state, wait } from '../../src/runtime/index.ts'
import { cannotRun, Sandbox, type SpecChanges, specOf, until } from './support.ts'

describe.skipIf(cannotRun)(`a container that is handed over (${cannotRun ?? 'real ones'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
    // What conmon and containerd's shim are: the parent of what their runtime leaves behind.
    perform(prctl(PR.SET_CHILD_SUBREAPER, 1))
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => {
    perform(prctl(PR.SET_CHILD_SUBREAPER, 0))
    sandbox.remove()
  })

  /** Waits for a child of this process. @returns its wait status. */
  async function statusOf(pid: number): Promise<number> {
    const status = out(4)
    let bytes: Buffer | undefined
    await until('the first process has ended', () => {
      const result = performFor(wait4(pid, status, WNOHANG))
      if (result.value === pid) bytes = result.bytes(status)
      return bytes !== undefined
    })
    return (bytes as Buffer).readInt32LE()
  }

  async function handedOver(
    command: string,
    options: Parameters<Sandbox['create']>[1] = {},
    changes: SpecChanges = {},
  ): Promise<RuntimeContainer> {
    const container = await sandbox.create(specOf(['sh', '-c', command], changes), { handOver: true, ...options })
    await container.release()
    return container
  }

  const lookup = () => ({ stateRoot: sandbox.stateRoot })

  it('is a child of the nearest subreaper, which learns how it ends', async () => {
    const { id, pid } = await handedOver('exit 42')
    expect(readFileSync(`/proc/${pid}/stat`, 'utf8')).toContain(` ${process.pid} `)
    expect(await state(id, lookup())).toMatchObject({ status: 'created', pid })
    await start(id, lookup())
    expect(await statusOf(pid)).toBe(42 << 8)
    expect(await state(id, lookup())).toMatchObject({ status: 'stopped' })
    await deleteContainer(id, lookup())
  })

  it('runs what it was made for, whatever its config.json says by then', async () => {
    const file = openSync(join(sandbox.directory, 'handed-over'), 'w+')
    const spec = specOf(['sh', '-c', 'echo "$A"; hostname'], {
      hostname: 'before',
      process: { env: ['A=b', 'PATH=/bin'] },
    })
    const container = await sandbox.create(spec, { handOver: true, stdio: [undefined, file, file] })
    await container.release()
    writeFileSync(join(sandbox.bundle, 'config.json'), 'nonsense')
    await start(container.id, lookup())
    expect(await statusOf(container.pid)).toBe(0)
    closeSync(file)
    expect(readFileSync(join(sandbox.directory, 'handed-over'), 'utf8')).toBe('b\nbefore\n')
    await deleteContainer(container.id, lookup())
  })

  it('is started once, and tells what it is when it can not be', async () => {
    const { id, pid } = await handedOver('sleep 1000')
    await start(id, lookup())
    await expect(start(id, lookup())).rejects.toThrow(/can't be started: it is running/)
    expect(readdirSync(join(sandbox.stateRoot, id))).toEqual(['started', 'state.json'])
    await kill(id, 'KILL', lookup())
    expect(await statusOf(pid)).toBe(9)
    await expect(start(id, lookup())).rejects.toThrow(/can't be started: it is stopped/)
    await deleteContainer(id, lookup())
  })

  it('is started although somebody has a look at it, whether it is abandoned, at that moment', async () => {
    const { id, pid } = await handedOver('sleep 1000')
    const looking = spawn('flock', [
      '--no-fork',
      join(sandbox.stateRoot, id),
      'sh',
      '-c',
      'echo has it; exec sleep 0.2',
    ])
    await once(looking.stdout, 'data')
    await start(id, lookup())
    await kill(id, 'KILL', lookup())
    expect(await statusOf(pid)).toBe(9)
    await deleteContainer(id, lookup())
  })

  it('is started by one of those that try at the same time', async () => {
    const { id, pid } = await handedOver('sleep 1000')
    const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => start(id, lookup())))
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
    const reasons = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as unknown] : []))
    for (const reason of reasons) expect(reason).toBeInstanceOf(ConflictError)
    await deleteContainer(id, { ...lookup(), force: true })
    expect(await statusOf(pid)).toBe(9)
  })

  it('can be started before it is released', async () => {
    const container = await sandbox.create(specOf(['sh', '-c', 'exit 3']), { handOver: true })
    await container.start()
    await container.release()
    expect(await statusOf(container.pid)).toBe(3 << 8)
    expect(existsSync(join(sandbox.stateRoot, container.id, 'start.sock'))).toBe(false)
    await deleteContainer(container.id, lookup())
  })

  it('stops when its program can not be executed, and says why', async () => {
    writeFileSync(join(sandbox.rootfs, 'bin/no-program'), 'no program', { mode: 0o755 })
    const container = await sandbox.create(specOf(['no-program']), { handOver: true })
    await container.release()
    await expect(start(container.id, lookup())).rejects.toMatchObject({
      code: 'ERR_OCI_RUNTIME',
      step: 'execute /bin/no-program',
      pointer: '/process/args',
    })
    expect(await statusOf(container.pid)).toBe(9)
    await deleteContainer(container.id, lookup())
  })

  it('is deleted before it was started', async () => {
    const { id, pid } = await handedOver('true', {}, { linux: { resources: { pids: { limit: 10 } } } })
    await deleteContainer(id, lookup())
    expect(await statusOf(pid)).toBe(9)
  })

  it('can be made without a process, and then not be started', async () => {
    const { process: _, ...spec } = specOf(['true'])
    const container = await sandbox.create(spec, { handOver: true })
    await container.release()
    await expect(start(container.id, lookup())).rejects.toThrow(InvalidArgumentError)
    await deleteContainer(container.id, lookup())
    expect(await statusOf(container.pid)).toBe(9)
  })

  it('can not be waited for by anybody else', async () => {
    const { id, pid } = await handedOver('true')
    await expect(wait(id, lookup())).rejects.toThrow(UnsupportedError)
    await deleteContainer(id, lookup())
    await statusOf(pid)
  })

  it('leaves also its further processes to the subreaper, however soon they end', async () => {
    const { id, pid } = await handedOver('sleep 1000')
    await start(id, lookup())
    for (let code = 0; code < 5; code++) {
      const process = await exec(id, { args: ['sh', '-c', `exit ${code}`] }, { ...lookup(), handOver: true })
      await process.release()
      expect(await statusOf(process.pid)).toBe(code << 8)
    }
    await deleteContainer(id, { ...lookup(), force: true })
    expect(await statusOf(pid)).toBe(9)
  })

  it('is deleted by its maker also when it has let go of it', async () => {
    const container = await handedOver('sleep 1000')
    await start(container.id, lookup())
    await expect(container.delete()).rejects.toThrow(ConflictError)
    await container.delete({ force: true })
    await container.delete()
    expect(await statusOf(container.pid)).toBe(9)
  })

  it('is started only by its maker when it was not handed over', async () => {
    const container = await sandbox.create(specOf(['true']))
    await expect(start(container.id, lookup())).rejects.toThrow(/another process has it/)
    await container.delete()
  })
})

describe.skipIf(cannotRun)('descriptors that are preserved', () => {
  let sandbox: Sandbox
  beforeAll(() => {
    sandbox = new Sandbox()
  })
  afterAll(() => sandbox.remove())

  it('are bounded', async () => {
    for (const preserveFds of [-1, 0.5, 241]) {
      await expect(sandbox.create(specOf(['true']), { preserveFds })).rejects.toThrow(InvalidArgumentError)
    }
  })
})
