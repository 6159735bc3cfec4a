import { mkdirSync, rmSync, symlinkSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { RuntimeContainer, RuntimeProcess, Terminal } from '../../src/runtime/index.ts'
import { cannotRun, Sandbox, type SpecChanges, specOf } from './support.ts'

describe.skipIf(cannotRun)(`a terminal (${cannotRun ?? 'in real containers'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  const terminalOf = (of: RuntimeContainer | RuntimeProcess): Terminal => {
    if (of.terminal === undefined) throw new Error('there is no terminal')
    return of.terminal
  }

  async function all(terminal: Terminal): Promise<string> {
    const chunks: Buffer[] = []
    for await (const chunk of terminal) chunks.push(chunk as Buffer)
    return Buffer.concat(chunks).toString()
  }

  async function shown(script: string, changes: SpecChanges = {}): Promise<string> {
    const container = await sandbox.create(
      specOf(['sh', '-c', script], { ...changes, process: { terminal: true, ...changes.process } }),
    )
    const text = all(terminalOf(container))
    await container.start()
    await container.exited
    const result = await text
    await container.delete()
    return result
  }

  it('is the standard streams, the controlling terminal and /dev/console of a container', async () => {
    const text = await shown(
      'tty; test -t 0 && test -t 1 && test -t 2 && echo all; echo x >/dev/tty; echo y >/dev/console',
    )
    expect(text).toBe('/dev/pts/0\r\nall\r\nx\r\ny\r\n')
  })

  it('has the size of the config, belongs to the user, and can be resized', async () => {
    const process = { consoleSize: { width: 91, height: 17 }, user: { uid: 1000, gid: 1000 } }
    const script =
      'stty size; stat -c %u:%g /dev/pts/0; trap "stty size; exit" WINCH; echo ready; while :; do sleep 0.01; done'
    const container = await sandbox.create(specOf(['sh', '-c', script], { process: { terminal: true, ...process } }))
    const terminal = terminalOf(container)
    let text = ''
    terminal.on('data', (chunk: Buffer) => {
      if (!text.includes('ready') && chunk.includes('ready')) terminal.resize(120, 40)
      text += chunk
    })
    await container.start()
    expect((await container.exited).code).toBe(0)
    if (!terminal.closed) await new Promise((resolve) => terminal.once('close', resolve))
    expect(text).toBe('17 91\r\n1000:5\r\nready\r\n40 120\r\n')
    expect(() => terminal.resize(1, 1)).toThrow(expect.objectContaining({ code: 'ERR_OCI_CONFLICT' }))
    expect(() => terminal.resize(-1, 1)).toThrow(expect.objectContaining({ code: 'ERR_OCI_INVALID_ARGUMENT' }))
    await container.delete()
  })

  it('is typed to, and its end is Ctrl-D', async () => {
    const container = await sandbox.create(
      specOf(['sh', '-c', 'stty -echo; echo go; cat; echo over'], { process: { terminal: true } }),
    )
    const terminal = terminalOf(container)
    let text = ''
    terminal.on('data', (chunk: Buffer) => {
      if (text === '') terminal.end('hello\n')
      text += chunk
    })
    await container.start()
    expect((await container.exited).code).toBe(0)
    if (!terminal.closed) await new Promise((resolve) => terminal.once('close', resolve))
    expect(text).toBe('go\r\nhello\r\nover\r\n')
    await container.delete()
  })

  it('loses nothing that is shown before the end', async () => {
    for (let round = 0; round < 5; round++) {
      const text = await shown('i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done')
      expect(text.split('\r\n')).toHaveLength(3001)
      expect(text.endsWith('line 2999\r\n')).toBe(true)
    }
  })

  it('is made for a further process', async () => {
    const container = await sandbox.create(specOf(['sleep', '1000']))
    await container.start()
    const args = ['sh', '-c', 'tty; stty size; echo x >/dev/tty']
    const ran = await container.exec({ args, terminal: true, consoleSize: { width: 100, height: 30 } })
    expect(await all(terminalOf(ran))).toBe('/dev/pts/0\r\n30 100\r\nx\r\n')
    expect((await ran.exited).code).toBe(0)
    await container.delete({ force: true })
  })

  it('hangs up when it is destroyed', async () => {
    const container = await sandbox.create(specOf(['sleep', '1000']))
    await container.start()
    const ran = await container.exec({ args: ['sleep', '1000'], terminal: true })
    terminalOf(ran).destroy()
    expect(await ran.exited).toMatchObject({ signal: 'SIGHUP' })
    await container.delete({ force: true })
  })

  it('is sent to a socket as runc sends it', async () => {
    const path = join(sandbox.directory, 'console.sock')
    const received: Buffer[] = []
    const server = createServer((connection) => connection.on('data', (bytes) => received.push(bytes)))
    await new Promise<void>((resolve) => server.listen(path, resolve))
    const container = await sandbox.create(specOf(['sh', '-c', 'exit 3'], { process: { terminal: true } }), {
      consoleSocket: path,
    })
    expect(container.terminal).toBeUndefined()
    await container.start()
    await container.exited
    await container.delete()
    await new Promise((resolve) => server.close(resolve))
    expect(Buffer.concat(received).toString()).toBe('/dev/pts/ptmx')
    await expect(
      sandbox.create(specOf(['true'], { process: { terminal: true } }), {
        consoleSocket: join(sandbox.directory, 'nobody'),
      }),
    ).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME', step: 'hand over the terminal', pointer: '/process/terminal' })
  })

  it('needs a devpts', async () => {
    const mounts = (specOf([]).mounts ?? []).filter(({ destination }) => destination !== '/dev/pts')
    await expect(sandbox.create(specOf(['true'], { mounts, process: { terminal: true } }))).rejects.toMatchObject({
      code: 'ERR_OCI_RUNTIME',
      step: 'make the terminal',
      pointer: '/process/terminal',
    })
  })

  it.each(['pts/ptmx', 'console'])('is not made by way of a planted symlink %s (CVE-2025-52565)', async (name) => {
    const planted = join(sandbox.directory, 'dev')
    mkdirSync(join(planted, 'pts'), { recursive: true })
    symlinkSync('/proc/sys/kernel/core_pattern', join(planted, name))
    const mounts = [
      ...(specOf([]).mounts ?? []).filter(({ destination }) => !destination.startsWith('/dev')),
      { destination: '/dev', type: 'bind', source: planted, options: ['bind'] },
      ...(name === 'console' ? (specOf([]).mounts ?? []).filter(({ destination }) => destination === '/dev/pts') : []),
    ]
    await expect(sandbox.create(specOf(['true'], { mounts, process: { terminal: true } }))).rejects.toMatchObject({
      code: 'ERR_OCI_RUNTIME',
      cause: expect.objectContaining({ errnoName: 'ELOOP' }),
    })
    rmSync(planted, { recursive: true })
  })
})
