import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { PassThrough, Readable } from 'node:stream'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { InvalidArgumentError } from '../../src/errors.ts'
import { cannotRunAsRoot } from './support/busybox.ts'
import { linesOf, Sandbox } from './support/sandbox.ts'

describe.skipIf(cannotRunAsRoot)(`what a container writes and reads (${cannotRunAsRoot ?? 'real ones'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.prepare()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  it('is in the log from its birth on, whole when it has ended', async () => {
    const box = await sandbox.run(['sh', '-c', 'seq 20000; echo oops >&2; printf end'])
    await box.exited
    const lines = await linesOf(box)
    const numbers = Array.from({ length: 20_000 }, (_, i) => `stdout: ${i + 1}`)
    expect(lines.filter((line) => line.startsWith('stdout'))).toEqual([...numbers, 'stdout: end'])
    expect(lines.filter((line) => line.startsWith('stderr'))).toEqual(['stderr: oops'])
    await box.remove()
    // Also when it is gone.
    expect(await linesOf(box)).toEqual(lines)
  })

  it('comes while it is written to those who follow, until the container ends', async () => {
    const box = await sandbox.run(['sh', '-c', 'echo one; read x; echo two; read x; printf three'], { stdin: 'pipe' })
    const seen: string[] = []
    for await (const { text } of box.logs({ follow: true })) {
      seen.push(text)
      box.stdin?.write('go on\n')
    }
    expect(seen).toEqual(['one', 'two', 'three'])
    await box.remove()
  })

  it('is given to each of several readers', async () => {
    const box = await sandbox.run(['sh', '-c', 'for i in $(seq 100); do echo $i; done'])
    const all = await Promise.all([1, 2, 3].map(() => linesOf(box, { follow: true })))
    for (const lines of all) expect(lines).toHaveLength(100)
    await box.remove()
  })

  it('can be asked for from its end', async () => {
    const box = await sandbox.run(['sh', '-c', 'seq 10; read x; seq 11 12; printf 13'], { stdin: 'pipe' })
    for await (const { text } of box.logs({ follow: true })) if (text === '10') break
    expect(await linesOf(box, { tail: 2 })).toEqual(['stdout: 9', 'stdout: 10'])
    expect(await linesOf(box, { tail: 0 })).toEqual([])
    const rest = linesOf(box, { tail: 1, follow: true })
    box.stdin?.end()
    expect(await rest).toEqual(['stdout: 10', 'stdout: 11', 'stdout: 12', 'stdout: 13'])
    expect(await linesOf(box, { tail: 1 })).toEqual(['stdout: 13'])
    for (const tail of [-1, 0.5, Number.NaN]) expect(() => box.logs({ tail })).toThrow(InvalidArgumentError)
    await box.remove()
  })

  it('is not waited for any more when the signal says so', async () => {
    const box = await sandbox.run(['sleep', '1000'])
    const controller = new AbortController()
    const reason = new Error('enough')
    const reading = linesOf(box, { follow: true, signal: controller.signal })
    controller.abort(reason)
    await expect(reading).rejects.toBe(reason)
    await expect(linesOf(box, { signal: controller.signal })).rejects.toBe(reason)
    await box.remove()
  })

  it('may be anything: binary, empty lines, carriage returns, characters cut in two, one endless line', async () => {
    const script = `printf 'a\\r\\n\\n\\377\\376\\n\\303'; sleep 0.05; printf '\\244\\n'; head -c 300000 /dev/zero | tr '\\0' x`
    const box = await sandbox.run(['sh', '-c', script])
    const lines: string[] = []
    for await (const { text } of box.logs({ follow: true })) lines.push(text)
    expect(lines.slice(0, 4)).toEqual(['a', '', '\ufffd\ufffd', 'ä'])
    expect(lines.length).toBeGreaterThan(5)
    for (const line of lines.slice(4)) expect(line.length).toBeLessThanOrEqual(192 * 1024)
    expect(lines.slice(4).join('')).toBe('x'.repeat(300_000))
    await box.remove()
  })

  it('is kept up to a limit, the latest of it, also when it comes byte by byte', async () => {
    const box = await sandbox.run(['sh', '-c', 'seq 1000000; echo last'], { logSize: '1m' })
    await box.exited
    const lines = await linesOf(box)
    expect(lines.at(-1)).toBe('stdout: last')
    expect(lines.length).toBeLessThan(300_000)
    expect(lines.length).toBeGreaterThan(10_000)
    await box.remove()
  })

  it('does not fill memory with tens of millions of lines', { timeout: 120_000 }, async () => {
    const box = await sandbox.run(['sh', '-c', 'yes "" | head -n 40000000'])
    await box.exited
    const before = process.memoryUsage().rss
    expect(await linesOf(box, { tail: 3 })).toEqual(['stdout: ', 'stdout: ', 'stdout: '])
    expect(process.memoryUsage().rss - before).toBeLessThan(400 << 20)
    await box.remove()
  })

  it('arrives whole by the gigabyte, as fast as it is read, in little memory', { timeout: 120_000 }, async () => {
    const size = 1 << 30
    const box = await sandbox.run(['sh', '-c', `yes 0123456789abcde | head -c ${size}`])
    const expected = createHash('md5')
    const block = Buffer.from('0123456789abcde\n'.repeat(65536))
    for (let i = 0; i < size / block.length; i++) expected.update(block)
    const hash = createHash('md5')
    let peak = 0
    const before = process.memoryUsage().rss
    for await (const chunk of box.stdout) {
      hash.update(chunk as Buffer)
      peak = Math.max(peak, process.memoryUsage.rss())
    }
    expect(hash.digest('hex')).toBe(expected.digest('hex'))
    expect(await box.exited).toMatchObject({ code: 0 })
    expect(peak - before).toBeLessThan(300 << 20)
    await box.remove()
  })

  it('waits for a slow reader of the stream, and then loses nothing', async () => {
    const box = await sandbox.run(['sh', '-c', 'seq 100000; echo written >&2'])
    const out = box.stdout
    const first = await once(out, 'readable')
    expect(first).toEqual([])
    // The pipe is full and nobody reads: the container can't come to its end.
    await expect(Promise.race([box.exited, new Promise((resolve) => setImmediate(resolve))])).resolves.toBeUndefined()
    let text = ''
    for await (const chunk of out) text += String(chunk)
    expect(text.split('\n')).toHaveLength(100_001)
    expect(await linesOf(box, { tail: 1 })).toEqual(['stderr: written'])
    await box.remove()
  })

  it('can still be read from the stream when the container is gone', async () => {
    const box = await sandbox.run(['sh', '-c', 'seq 10000'])
    const { stdout, stderr } = box
    await box.exited
    await box.remove()
    const chunks: Buffer[] = []
    for await (const chunk of stdout) chunks.push(chunk as Buffer)
    expect(Buffer.concat(chunks).toString().split('\n')).toHaveLength(10_001)
    for await (const chunk of stderr) expect(chunk).toBeUndefined()
    expect(box.stdout).toBe(stdout)
  })

  it('goes on into the log when the stream is closed half-way', async () => {
    const box = await sandbox.run(['sh', '-c', 'seq 200000; echo last'])
    for await (const chunk of box.stdout) {
      expect(chunk).toBeDefined()
      break
    }
    expect((await box.exited).code).toBe(0)
    expect(await linesOf(box, { tail: 1 })).toEqual(['stdout: last'])
    await box.remove()
  })

  it.each([
    ['text', 'hello\nworld\n'],
    ['bytes', new Uint8Array(Buffer.from('hello\nworld\n'))],
    ['a stream', Readable.from(['hello\n', 'world\n'])],
    ['nothing', ''],
  ])('reads %s as its input', async (_, input) => {
    const { stdout } = await sandbox.sh('cat', { input })
    expect(stdout).toBe(input === '' ? '' : 'hello\nworld\n')
  })

  it('reads as many bytes as a stream has', async () => {
    const block = Buffer.alloc(1 << 20, 'x')
    const input = Readable.from(Array.from({ length: 64 }, () => block))
    const { stdout } = await sandbox.sh('wc -c', { input })
    expect(stdout.trim()).toBe(String(64 << 20))
  })

  it('has no input unless it is given one', async () => {
    const box = await sandbox.run(['cat'])
    expect(box.stdin).toBeUndefined()
    expect(await box.exited).toMatchObject({ code: 0 })
    await box.remove()
  })

  it('need not read its input: the stream is let go with the container', async () => {
    const input = new PassThrough()
    const closed = once(input, 'close').catch(() => {})
    input.write(Buffer.alloc(1 << 20))
    const box = await sandbox.run(['sleep', '0.05'], { input })
    expect(await box.exited).toMatchObject({ code: 0 })
    await closed
    await box.remove()
    const unread = await sandbox.run(['true'], { input: Buffer.alloc(8 << 20) })
    expect(await unread.exited).toMatchObject({ code: 0 })
    await unread.remove()
  })

  it('ends its input where a stream fails', async () => {
    const input = Readable.from(
      (async function* () {
        yield 'some'
        throw new Error('broken')
      })(),
    )
    const { stdout } = await sandbox.sh('cat; echo .', { input })
    expect(stdout).toBe('some.\n')
  })

  it('can be written to after it has ended without an error that nobody handles', async () => {
    const box = await sandbox.run(['true'], { stdin: 'pipe' })
    await box.exited
    box.stdin?.write('too late')
    await box.remove()
    box.stdin?.write('much too late')
  })
})
