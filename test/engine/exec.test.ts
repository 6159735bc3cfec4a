import { Readable } from 'node:stream'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type Container, createEngine, wait } from '../../src/index.ts'
import { cannotRunAsRoot } from './support/busybox.ts'
import { linesOf, Sandbox } from './support/sandbox.ts'

describe.skipIf(cannotRunAsRoot)(`exec (${cannotRunAsRoot ?? 'in real containers'})`, () => {
  let sandbox: Sandbox
  let box: Container
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.prepare()
  })
  afterEach(async () => {
    await box?.remove()
    await sandbox.expectNothingLeft()
  })
  afterAll(() => sandbox.remove())

  const start = async (options: Parameters<Sandbox['run']>[1] = {}): Promise<void> => {
    box = await sandbox.run(['sleep', '1000'], options)
  }

  it('collects what a program writes, and tells how it ended', async () => {
    await start({ hostname: 'box' })
    expect(await box.exec(['sh', '-c', 'hostname; echo oops >&2; exit 3'])).toEqual({
      stdout: 'box\n',
      stderr: 'oops\n',
      exitCode: 3,
      signal: undefined,
    })
    expect(await box.exec(['sh', '-c', 'kill -9 $$'])).toMatchObject({ exitCode: 137, signal: 'SIGKILL' })
  })

  it('has the environment of the container, and what it is given over it', async () => {
    await start({ env: { A: '1', B: '2' }, workingDir: '/tmp' })
    const { stdout } = await box.exec(['sh', '-c', 'echo $A $B $C; pwd'], {
      env: { B: null, C: '3' },
      workingDir: '/bin',
    })
    expect(stdout).toBe('1 3\n/bin\n')
    expect((await box.exec(['sh', '-c', 'echo $A $B; pwd'])).stdout).toBe('1 2\n/tmp\n')
  })

  it('runs as a user that the container knows by now, with its home', async () => {
    await start()
    await box.exec([
      'sh',
      '-c',
      'echo bob:x:1234:1235::/home/bob:/bin/sh >>/etc/passwd; echo staff:x:77:bob >>/etc/group',
    ])
    const script = 'id -u; id -G; echo $HOME; grep CapEff /proc/self/status'
    const { stdout } = await box.exec(['sh', '-c', script], { user: 'bob' })
    expect(stdout).toMatch(/^1234\n1235 77\n\/home\/bob\nCapEff:\t0+\n$/)
    expect((await box.exec(['id', '-u'], { user: '7:8' })).stdout).toBe('7\n')
    await expect(box.exec(['true'], { user: 'nobody-there' })).rejects.toMatchObject({ code: 'ERR_OCI_NOT_FOUND' })
  })

  it('may be privileged', async () => {
    await start()
    const bounding = async (options = {}): Promise<bigint> => {
      const { stdout } = await box.exec(['grep', 'CapBnd', '/proc/self/status'], options)
      return BigInt(`0x${stdout.split('\t')[1]?.trim()}`)
    }
    expect(await bounding({ privileged: true })).toBeGreaterThan(await bounding())
  })

  it.each([
    ['text', 'hello'],
    ['bytes', Buffer.from('hello')],
    ['a stream', Readable.from(['hel', 'lo'])],
  ])('is fed %s', async (_, input) => {
    await start()
    expect((await box.exec(['cat'], { input })).stdout).toBe('hello')
    // A program need not read it.
    expect((await box.exec(['true'], { input: 'x'.repeat(1 << 20) })).exitCode).toBe(0)
  })

  it('is over when its time is: the error has the shape of the result', async () => {
    await start()
    const error = await box
      .exec(['sh', '-c', 'echo before; echo bad >&2; sleep 1000'], { timeout: 500 })
      .catch((e) => e)
    expect(error).toMatchObject({
      code: 'ERR_OCI_EXEC',
      stdout: 'before\n',
      stderr: 'bad\n',
      exitCode: 137,
      signal: 'SIGKILL',
      cause: { code: 'ERR_OCI_TIMEOUT' },
    })
    expect((await box.exec(['ps'])).stdout).not.toContain('before')
  })

  it('ends when it writes too much', async () => {
    await start()
    const error = await box.exec(['yes'], { maxOutput: '100k' }).catch((e) => e)
    expect(error).toMatchObject({ code: 'ERR_OCI_EXEC', cause: { code: 'ERR_OCI_LIMIT' } })
    expect(error.stdout.length).toBeLessThanOrEqual(100 * 1024)
  })

  it('fails for an exit code where that is asked for', async () => {
    await start()
    await expect(box.exec(['sh', '-c', 'echo why >&2; exit 4'], { check: true })).rejects.toMatchObject({
      code: 'ERR_OCI_EXEC',
      exitCode: 4,
      message: expect.stringContaining('why'),
    })
  })

  it("rejects with the caller's reason when it is aborted", async () => {
    await start()
    const abort = new AbortController()
    const ran = box.exec(['sleep', '1000'], { signal: abort.signal })
    setTimeout(() => abort.abort(new Error('enough')), 100)
    await expect(ran).rejects.toThrow('enough')
    await expect(box.exec(['true'], { signal: abort.signal })).rejects.toThrow('enough')
  })

  it('says what is wrong with the program, the options and the container', async () => {
    await start()
    await expect(box.exec(['nonsense'])).rejects.toMatchObject({
      message: expect.stringContaining('executable file not found in $PATH'),
    })
    await expect(box.exec([])).rejects.toMatchObject({ code: 'ERR_OCI_INVALID_ARGUMENT', subject: 'argv' })
    await expect(box.exec(['true'], { workingDir: 'x' })).rejects.toMatchObject({ subject: 'workingDir' })
    await expect(box.exec(['true'], { timeout: 'soon' as never })).rejects.toMatchObject({ subject: 'timeout' })
    await box.stop({ timeout: 0 })
    await expect(box.exec(['true'])).rejects.toMatchObject({ code: 'ERR_OCI_CONFLICT' })
  })

  it('streams, both ways', async () => {
    await start()
    await using ran = await box.spawn(['sh', '-c', 'while read line; do echo "<$line>"; echo ! >&2; done'], {
      stdin: 'pipe',
    })
    ran.stdin?.write('one\n')
    let text = ''
    for await (const chunk of ran.stdout) {
      text += chunk
      if (text === '<one>\n') ran.stdin?.end('two\n')
    }
    expect(text).toBe('<one>\n<two>\n')
    expect(Buffer.concat(await ran.stderr.toArray()).toString()).toBe('!\n!\n')
    expect((await ran.exited).code).toBe(0)
  })

  it('has a terminal', async () => {
    await start()
    const ran = await box.spawn(['sh', '-c', 'stty size; read x; stty size; echo "$x"'], {
      tty: { columns: 80, rows: 24 },
    })
    let text = ''
    for await (const chunk of ran.stdout) {
      text += chunk
      if (text === '24 80\r\n') {
        ran.resize(100, 50)
        ran.stdin?.write('typed\n')
      }
    }
    expect((await ran.exited).code).toBe(0)
    expect(text).toBe('24 80\r\ntyped\r\n50 100\r\ntyped\r\n')
    const plain = await box.spawn(['true'])
    expect(() => plain.resize(1, 1)).toThrow(expect.objectContaining({ code: 'ERR_OCI_CONFLICT' }))
    await plain[Symbol.asyncDispose]()
  })

  it('works in a detached container, also by another engine', async () => {
    box = await sandbox.run(['sleep', '1000'], { detach: true, name: 'detached' })
    expect((await box.exec(['echo', 'hi'])).stdout).toBe('hi\n')
    const other = await createEngine({ root: sandbox.root, state: sandbox.state }).attach('detached')
    expect((await other.exec(['echo', 'there'])).stdout).toBe('there\n')
  })

  it('is a container with a terminal of its own, too', async () => {
    const script = 'stty size; read x; echo "<$x>"; stty size'
    const tty = { columns: 70, rows: 20 }
    box = await sandbox.run(['sh', '-c', script], { tty, ready: wait.log('20 70') })
    box.resize(71, 21)
    box.stdin?.write('hello\n')
    expect((await box.exited).code).toBe(0)
    expect(await linesOf(box)).toEqual(['stdout: 20 70', 'stdout: hello', 'stdout: <hello>', 'stdout: 21 71'])
    await expect(sandbox.run(['true'], { tty: true, detach: true })).rejects.toMatchObject({ subject: 'detach' })
  })
})

describe.skipIf(cannotRunAsRoot)(`hooks of run (${cannotRunAsRoot ?? 'in real containers'})`, () => {
  it('are programs and functions', async () => {
    const sandbox = new Sandbox()
    try {
      await sandbox.prepare()
      const seen: string[] = []
      const box = await sandbox.run(['sleep', '1000'], {
        hooks: {
          createRuntime: [{ path: '/bin/true' }, async ({ status }, { pid }) => void seen.push(`${status} ${pid > 0}`)],
          poststop: [({ status }) => void seen.push(status)],
        },
      })
      await box.remove()
      expect(seen).toEqual(['creating true', 'stopped'])
      const failing = sandbox.run(['true'], { hooks: { createContainer: [{ path: '/bin/false' }] } })
      await expect(failing).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME', pointer: '/hooks/createContainer/0' })
      await sandbox.expectNothingLeft()
    } finally {
      sandbox.remove()
    }
  })
})
