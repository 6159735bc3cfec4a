import { closeSync, mkdirSync, openSync, readFileSync, readSync } from 'node:fs'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { ConflictError, InvalidArgumentError } from '../../src/errors.ts'
import { socketPair } from '../../src/linux/remote/remote.ts'
import type { createContainer } from '../../src/runtime/index.ts'
import { cannotRun, Sandbox, specOf } from './support.ts'

describe.skipIf(cannotRun)(`the life of a container (${cannotRun ?? 'real ones'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  it('ends with the exit code of its program', async () => {
    const { status } = await sandbox.run(specOf(['sh', '-c', 'exit 42']))
    expect(status).toEqual({ code: 42, signal: undefined, oomKilled: false })
  })

  it('ends with the signal that ended its program', async () => {
    // The first process of a pid namespace takes no signal from inside that it does not handle.
    const container = await sandbox.create(specOf(['sleep', '1000']))
    await container.start()
    container.kill('SIGKILL')
    expect(await container.exited).toEqual({ code: 137, signal: 'SIGKILL', oomKilled: false })
    await container.delete()
  })

  it('hands its standard streams to the program', async () => {
    const pair = socketPair()
    const socket = new Socket({ fd: pair.here })
    const container = await sandbox.create(specOf(['sh', '-c', 'read name; echo "hello $name"; echo oops >&2']), {
      stdio: [pair.there, pair.there, pair.there],
    })
    closeSync(pair.there)
    await container.start()
    socket.write('world\n')
    const chunks: Buffer[] = []
    for await (const chunk of socket) chunks.push(chunk as Buffer)
    expect(Buffer.concat(chunks).toString()).toBe('hello world\noops\n')
    await container.delete({ force: true })
  })

  it('goes from created to running to stopped', async () => {
    const annotations = { 'org.example.key': 'value' }
    const container = await sandbox.create(specOf(['sleep', '1000'], { annotations }))
    const { id, pid } = container
    const common = { ociVersion: '1.2.0', id, bundle: sandbox.bundle, annotations }
    expect(container.state).toEqual({ ...common, status: 'created', pid })
    await container.start()
    expect(container.state).toEqual({ ...common, status: 'running', pid })
    expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).toBe('sleep\x001000\0')
    container.kill('KILL')
    await container.exited
    expect(container.state).toEqual({ ...common, status: 'stopped' })
    await container.delete()
  })

  it('does not start its program before start', async () => {
    const container = await sandbox.create(specOf(['touch', '/tmp/started']))
    expect(readFileSync(`/proc/${container.pid}/comm`, 'utf8')).not.toBe('touch\n')
    await container.delete()
  })

  it('is started only once, and not when it was killed before', async () => {
    const container = await sandbox.create(specOf(['sleep', '1000']))
    await container.start()
    await expect(container.start()).rejects.toThrow(ConflictError)
    await container.delete({ force: true })

    const killed = await sandbox.create(specOf(['sleep', '1000']))
    killed.kill(9)
    await killed.exited
    await expect(killed.start()).rejects.toThrow(ConflictError)
    await killed.delete()
  })

  it('takes no signal when it has ended, and none that does not exist', async () => {
    const container = await sandbox.create(specOf(['true']))
    expect(() => container.kill('SIGNONSENSE')).toThrow(InvalidArgumentError)
    expect(() => container.kill(65)).toThrow(InvalidArgumentError)
    await container.start()
    await container.exited
    expect(() => container.kill('TERM')).toThrow(ConflictError)
    await container.delete()
    expect(() => container.kill('TERM')).toThrow(ConflictError)
  })

  it('is deleted while it runs only with force; deleting it again does nothing', async () => {
    const container = await sandbox.create(specOf(['sleep', '1000']))
    await container.start()
    await expect(container.delete()).rejects.toThrow(ConflictError)
    await Promise.all([container.delete({ force: true }), container.delete({ force: true })])
    await container.delete()
    expect(await container.exited).toMatchObject({ signal: 'SIGKILL' })
  })

  it('is deleted when its scope ends', async () => {
    const container = await sandbox.create(specOf(['sleep', '1000']))
    await container.start()
    await container[Symbol.asyncDispose]()
    expect(container.state.status).toBe('stopped')
  })

  it('can be deleted while it starts', async () => {
    const container = await sandbox.create(specOf(['sleep', '1000']))
    const starting = container.start().catch((error: unknown) => error)
    await container.delete({ force: true })
    await starting
  })

  it('has an id that is its own', async () => {
    const id = sandbox.id()
    const container = await sandbox.create(specOf(['true']), { id })
    await expect(sandbox.create(specOf(['true']), { id })).rejects.toThrow(ConflictError)
    await container.delete()
    await (await sandbox.create(specOf(['true']), { id })).delete()
  })

  it.each(['', '.', '..', '../x', 'a/b', '-a', '.a', 'a b', 'ä', 'a\0', 'x'.repeat(256)])(
    'refuses the id %j',
    async (id) => {
      await expect(sandbox.create(specOf(['true']), { id })).rejects.toThrow(InvalidArgumentError)
    },
  )

  it('writes the pid to a file', async () => {
    const pidFile = join(sandbox.directory, 'pid')
    const container = await sandbox.create(specOf(['true']), { pidFile })
    expect(readFileSync(pidFile, 'utf8')).toBe(String(container.pid))
    await container.delete()
  })

  it('leaves the descriptors of its streams open here', async () => {
    const file = openSync(join(sandbox.directory, 'out'), 'w+')
    const container = await sandbox.create(specOf(['echo', 'text']), { stdio: [undefined, file, file] })
    await container.start()
    await container.exited
    await container.delete()
    const buffer = Buffer.alloc(5)
    readSync(file, buffer, 0, 5, 0)
    expect(buffer.toString()).toBe('text\n')
    closeSync(file)
  })

  it('gives the reason of an abort, at whatever moment it comes', async () => {
    const reason = new Error('changed my mind')
    await expect(sandbox.create(specOf(['true']), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    for (let ms = 0; ms < 12; ms++) {
      const controller = new AbortController()
      const timer = setTimeout(() => controller.abort(reason), ms)
      const spec = specOf(['true'], { linux: { resources: { memory: { limit: 64 << 20 } } } })
      const made = await sandbox.create(spec, { signal: controller.signal }).catch((error: unknown) => error)
      clearTimeout(timer)
      if (made === reason) continue
      await (made as Awaited<ReturnType<typeof createContainer>>).delete()
    }
  })

  it('makes eight at once', async () => {
    const outcomes = await Promise.all(
      Array.from({ length: 8 }, (_, n) => sandbox.run(specOf(['sh', '-c', `echo ${n}; exit ${n}`]))),
    )
    expect(outcomes.map(({ stdout, status }) => [stdout, status.code])).toEqual(
      Array.from({ length: 8 }, (_, n) => [`${n}\n`, n]),
    )
  })

  it('ends when its monitor is killed', async () => {
    const container = await sandbox.create(specOf(['sleep', '1000']))
    await container.start()
    const parent = /^PPid:\s*(\d+)/m.exec(readFileSync(`/proc/${container.pid}/status`, 'utf8'))?.[1]
    process.kill(Number(parent), 'SIGKILL')
    expect(await container.exited).toMatchObject({ signal: 'SIGKILL' })
    await container.delete()
  })

  it('needs a root filesystem', async () => {
    mkdirSync(join(sandbox.directory, 'empty'), { recursive: true })
    const made = sandbox.create(specOf(['true']), { bundle: join(sandbox.directory, 'empty') })
    await expect(made).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME', step: 'prepare the root filesystem' })
  })
})
