import { closeSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import { InvalidArgumentError, LimitError, RemoteExitError, SyscallError } from '../../../src/errors.ts'
import { hostArchitecture } from '../../../src/linux/architecture.ts'
import { call, out, struct } from '../../../src/linux/call.ts'
import { AT_FDCWD, close, dup3, mkdirat, O, openat, pipe2, read, write } from '../../../src/linux/calls/files.ts'
import { clone, execve, siginfoSize, stringTable, waitForExit } from '../../../src/linux/calls/processes.ts'
import { Channel } from '../../../src/linux/remote/channel.ts'
import { Remote, socketPair } from '../../../src/linux/remote/remote.ts'
import { isGone, until } from '../support.ts'

const directory = mkdtempSync(join(tmpdir(), 'oci-ts-remote-'))
afterAll(() => rmSync(directory, { recursive: true }))

let remote: Remote
beforeEach(() => {
  remote = Remote.spawn()
})
afterEach(() => remote.close())

describe('a batch', () => {
  it('is made in the remote process', async () => {
    const pid = call('getpid', [])
    const parent = call('getppid', [])
    const results = await remote.run([pid, parent])
    expect(results.value(pid)).toBe(remote.pid)
    expect(results.value(parent)).toBe(process.pid)
  })

  it('chains results: opens, writes and closes in one go', async () => {
    const path = join(directory, 'chained')
    const file = openat(AT_FDCWD, path, O.WRONLY | O.CREAT | O.EXCL, 0o640)
    const text = write(file, 'chained results')
    const closing = close(file)
    const results = await remote.run([file, text, closing])
    expect(results.value(file)).toBe(4)
    expect(results.value(text)).toBe(15)
    expect(results.value(closing)).toBe(0)
    expect(readFileSync(path, 'utf8')).toBe('chained results')
  })

  it('brings back what the kernel wrote, and lets another call read it', async () => {
    const source = openat(AT_FDCWD, '/proc/self/stat', O.RDONLY)
    const content = out(64)
    const got = read(source, content)
    const copy = openat(AT_FDCWD, join(directory, 'copy'), O.WRONLY | O.CREAT, 0o600)
    const results = await remote.run([source, got, copy, write(copy, content), close(copy), close(source)])
    const bytes = results.bytes(content)
    expect(bytes.toString().startsWith(`${remote.pid} (`)).toBe(true)
    expect(readFileSync(join(directory, 'copy'))).toEqual(bytes)
    expect(() => results.bytes(out(64))).toThrow(InvalidArgumentError)
    expect(() => results.value(call('getpid', []))).toThrow(InvalidArgumentError)
  })

  it.each([
    ['one that outlives this process, which then says nothing', true],
    ['one that does not, which has to answer', false],
  ])('is made when nobody asks for the answer, by %s', async (name, outlive) => {
    await using other = Remote.spawn({ outlive })
    const path = join(directory, name)
    other.post([mkdirat(AT_FDCWD, path, 0o700)], { silent: true })
    other.post([mkdirat(AT_FDCWD, path, 0o700)], { silent: true }) // fails
    const again = mkdirat(AT_FDCWD, path, 0o700, { tolerate: 'EEXIST' })
    expect((await other.run([again])).value(again)).toBeLessThan(0)
  })

  it('gives the kernel structs with addresses inside', async () => {
    const path = join(directory, 'vector')
    const file = openat(AT_FDCWD, path, O.WRONLY | O.CREAT, 0o600)
    const vector = struct(['first ', 6, Buffer.from('second'), 6])
    await remote.run([file, call('writev', [file, vector, 2])])
    expect(readFileSync(path, 'utf8')).toBe('first second')
  })

  it('stops at the first call that fails, and the error names it', async () => {
    const before = mkdirat(AT_FDCWD, join(directory, 'before'), 0o700)
    const failing = { ...mkdirat(AT_FDCWD, '/proc/nowhere', 0o700, { step: 'make nowhere' }), pointer: '/mounts/1' }
    const after = mkdirat(AT_FDCWD, join(directory, 'after'), 0o700)
    const error = await remote.run([before, failing, after]).catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(SyscallError)
    expect(error).toMatchObject({
      syscall: 'mkdirat',
      errnoName: 'ENOENT',
      path: '/proc/nowhere',
      step: 'make nowhere',
      pointer: '/mounts/1',
    })
    expect(readdirSync(directory)).toContain('before')
    expect(readdirSync(directory)).not.toContain('after')
    // The process is as good as before.
    const pid = call('getpid', [])
    expect((await remote.run([pid])).value(pid)).toBe(remote.pid)
  })

  it('goes on after a failure that is tolerated, and after no other', async () => {
    const fails = (tolerate: string) => close(77, { tolerate })
    const [one, any, pid] = [fails('EBADF'), fails('any'), call('getpid', [])]
    const results = await remote.run([one, any, pid])
    expect([results.value(one), results.value(any), results.value(pid)]).toEqual([-9, -9, remote.pid])
    await expect(remote.run([fails('EEXIST'), pid])).rejects.toThrow(/close: bad file descriptor \(EBADF\)/)
  })

  it('that fails in its first call or its last says so', async () => {
    const good = call('getpid', [])
    await expect(remote.run([close(-1, { step: 'first' }), good])).rejects.toMatchObject({ step: 'first' })
    await expect(remote.run([good, close(-1, { step: 'last' })])).rejects.toMatchObject({ step: 'last' })
  })

  it('may be handed over before earlier ones are answered', async () => {
    const calls = Array.from({ length: 50 }, (_, i) => call('dup3', [0, 100 + i, 0]))
    const results = await Promise.all(calls.map((each) => remote.run([each])))
    expect(results.map((each, i) => each.value(calls[i] as never))).toEqual(calls.map((_, i) => 100 + i))
  })

  it('rejects alone: those before and behind it are made', async () => {
    const pid = call('getpid', [])
    const outcomes = await Promise.allSettled([remote.run([pid]), remote.run([close(-1)]), remote.run([pid])])
    expect(outcomes.map((each) => each.status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
  })

  it('moves as much as there is room for, in both directions', async () => {
    const size = 500_000
    const bytes = Buffer.alloc(size, 'all of it ')
    const path = join(directory, 'large')
    const file = openat(AT_FDCWD, path, O.RDWR | O.CREAT, 0o600)
    const back = out(size)
    const calls = [file, write(file, bytes), call('lseek', [file, 0, 0]), read(file, back), close(file)]
    const batches = await Promise.all([remote.run(calls), remote.run(calls), remote.run(calls)])
    for (const results of batches) expect(results.bytes(back).equals(bytes)).toBe(true)
  })
})

describe('a batch that can’t be sent', () => {
  it('is refused before any of it is done', async () => {
    const made = mkdirat(AT_FDCWD, join(directory, 'never'), 0o700)
    const bad = [
      call('chdir', ['/x\0y']),
      call('getpid', [0.5]),
      call('getpid', [2n ** 64n]),
      call('no_such_call', []),
      call('getpid', [1, 2, 3, 4, 5, 6, 7]),
      close(call('getpid', [])),
    ]
    for (const each of bad) await expect(remote.run([made, each])).rejects.toBeInstanceOf(InvalidArgumentError)
    await expect(remote.run([])).rejects.toBeInstanceOf(InvalidArgumentError)
    const large = write(1, new Uint8Array(remote.capacity + 1))
    await expect(remote.run([made, large])).rejects.toBeInstanceOf(LimitError)
    expect(readdirSync(directory)).not.toContain('never')
    const pid = call('getpid', [])
    expect((await remote.run([pid])).value(pid)).toBe(remote.pid)
  })
})

describe('a child', () => {
  it('answers on a socket of its own, to batches that may be there before it is', async () => {
    const { here, there } = socketPair()
    const descriptor = 9
    const parent = Remote.spawn({ descriptors: new Map([[descriptor, there]]) })
    closeSync(there)
    const child = new Channel(here, { architecture: hostArchitecture() })
    try {
      const pid = call('getpid', [])
      const ancestor = call('getppid', [])
      const early = child.run([pid, ancestor])
      const birth = clone({ flags: 0, childSocket: descriptor })
      const born = (await parent.run([birth, close(descriptor)])).value(birth)
      const results = await early
      expect(results.value(pid)).toBe(born)
      expect(results.value(ancestor)).toBe(parent.pid)
      // Both go on, each on its own socket.
      const exit = call('exit_group', [7])
      const info = out(siginfoSize)
      const waited = parent.run([waitForExit(born, info)])
      await expect(child.run([exit])).rejects.toBeInstanceOf(RemoteExitError)
      expect((await waited).bytes(info).readInt32LE(24)).toBe(7)
    } finally {
      await Promise.all([parent.close(), child.close()])
    }
  })

  it('becomes another program with the arguments, environment and descriptors it is given', async () => {
    const { here, there } = socketPair()
    const parent = Remote.spawn({ descriptors: new Map([[9, there]]) })
    closeSync(there)
    const child = new Channel(here, { architecture: hostArchitecture() })
    try {
      const path = join(directory, 'executed')
      const file = openat(AT_FDCWD, path, O.WRONLY | O.CREAT, 0o600)
      const argv = stringTable(['sh', '-c', 'echo "$0 $1 $WORD"', 'zero', 'one two'])
      const becoming = child.run([
        file,
        dup3(file, 1),
        call('close_range', [3, 0xffffffff, 4]),
        execve('/bin/sh', argv, stringTable(['WORD=three'])),
      ])
      const birth = clone({ flags: 0, childSocket: 9 })
      const wait = waitForExit(birth, out(siginfoSize))
      const [outcome] = await Promise.allSettled([becoming, parent.run([birth, close(9), wait])])
      // The socket was close-on-exec: its end is how the success of execve is seen.
      expect(outcome).toMatchObject({ status: 'rejected', reason: expect.any(RemoteExitError) })
      expect(readFileSync(path, 'utf8')).toBe('zero one two three\n')
    } finally {
      await Promise.all([parent.close(), child.close()])
    }
  })
})

describe('a remote process that ends in mid-batch', () => {
  it('rejects every batch that waits', async () => {
    const pair = out(8)
    const pipe = (await remote.run([pipe2(pair, 0)])).bytes(pair)
    const blocked = remote.run([read(pipe.readInt32LE(0), out(1))])
    const others = [remote.run([call('getpid', [])]), remote.run([call('getpid', [])])]
    process.kill(remote.pid, 'SIGKILL')
    for (const outcome of await Promise.allSettled([blocked, ...others])) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: expect.any(RemoteExitError) })
    }
    await remote.closed
    await expect(remote.run([call('getpid', [])])).rejects.toBeInstanceOf(RemoteExitError)
  })

  it('by a call of its own does so too', async () => {
    await expect(remote.run([call('exit_group', [3])])).rejects.toBeInstanceOf(RemoteExitError)
    await remote.close()
  })

  it('because it is closed does so too, and is gone then', async () => {
    const pair = out(8)
    const pipe = (await remote.run([pipe2(pair, 0)])).bytes(pair)
    const blocked = remote.run([read(pipe.readInt32LE(0), out(1))])
    const rejected = expect(blocked).rejects.toBeInstanceOf(RemoteExitError)
    await Promise.all([remote.close(), remote.close()])
    await rejected
    expect(isGone(remote.pid)).toBe(true)
    expect(() => process.kill(remote.pid, 0)).toThrow(/ESRCH/)
  })
})

describe('a remote process that is stopped', () => {
  const stopped = (): boolean => readFileSync(`/proc/${remote.pid}/stat`, 'utf8').includes(') T ')
  const busyUntil = (condition: () => boolean): void => {
    const end = Date.now() + 5000
    while (!condition()) if (Date.now() > end) throw new Error('waited in vain')
  }
  /** Stops and continues it while this process neither reads nor writes. */
  const interrupt = (): void => {
    for (let i = 0; i < 5; i++) {
      process.kill(remote.pid, 'SIGCONT')
      busyUntil(() => !stopped())
      process.kill(remote.pid, 'SIGSTOP')
      busyUntil(stopped)
    }
    process.kill(remote.pid, 'SIGCONT')
  }

  it('in the middle of a batch it receives gets the rest of it', async () => {
    const pid = call('getpid', [])
    await remote.run([pid])
    process.kill(remote.pid, 'SIGSTOP')
    await until('it is stopped', stopped)
    const bytes = Buffer.alloc(1_000_000, 'x')
    const result = remote.run([call('getpid', [bytes]), pid])
    interrupt()
    expect((await result).value(pid)).toBe(remote.pid)
  })

  it('in the middle of an answer sends the rest of it', async () => {
    const random = out(900_000)
    const pid = call('getpid', [])
    await remote.run([pid])
    const result = remote.run([pid, call('getpid', [random])])
    busyUntil(() => readFileSync(`/proc/${remote.pid}/stat`, 'utf8').includes(') S '))
    interrupt()
    const results = await result
    expect(results.bytes(random).length).toBe(random.size)
    expect(results.value(pid)).toBe(remote.pid)
  })
})
