import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process'
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { setFlagsFromString as setV8Flags } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { RemoteExitError, SyscallError } from '../../../src/errors.ts'
import { hostArchitecture } from '../../../src/linux/architecture.ts'
import { call, out } from '../../../src/linux/call.ts'
import { AT_FDCWD, close, mkdirat, pipe2, read } from '../../../src/linux/calls/files.ts'
import { checkPeer, PR, prctl, SIGKILL, setrlimit } from '../../../src/linux/calls/processes.ts'
import { encode } from '../../../src/linux/encode.ts'
import { perform } from '../../../src/linux/local.ts'
import { headerSize, messageAddress, messageCapacity } from '../../../src/linux/remote/memory.ts'
import { reap } from '../../../src/linux/remote/reap.ts'
import { Remote, socketPair } from '../../../src/linux/remote/remote.ts'
import { spawnProgram } from '../../../src/linux/remote/spawn.ts'
import { children, descriptorsOf, isGone, isRoot, statusOf, until } from '../support.ts'

const directory = mkdtempSync(join(tmpdir(), 'oci-ts-life-'))
afterAll(() => rmSync(directory, { recursive: true }))

const started: ChildProcess[] = []
const remotes: number[] = []
afterEach(() => {
  for (const child of started.splice(0)) child.kill('SIGKILL')
  for (const pid of remotes.splice(0)) if (!isGone(pid)) process.kill(pid, 'SIGKILL')
})

const fixture = (name: string): string => new URL(`../fixtures/${name}`, import.meta.url).pathname
const node = (name: string, ...args: readonly string[]): readonly string[] => [
  '--import',
  'tsx',
  fixture(name),
  ...args,
]

/** A process that has a remote process blocked in a read. */
async function startParent(...args: readonly string[]): Promise<{ parent: ChildProcess; pid: number }> {
  const parent = spawn(process.execPath, node('parent.ts', ...args), { stdio: ['ignore', 'pipe', 'inherit'] })
  started.push(parent)
  for await (const line of createInterface({ input: parent.stdout as NodeJS.ReadableStream })) {
    remotes.push(Number(line))
    return { parent, pid: Number(line) }
  }
  throw new Error('the parent ended')
}

describe('a remote process whose parent is killed', () => {
  const fifo = join(directory, 'fifo')
  execFileSync('mkfifo', [fifo])

  it('dies with it, also in the middle of a batch', async () => {
    const path = join(directory, 'never')
    const { parent, pid } = await startParent(fifo, path)
    expect(isGone(pid)).toBe(false)
    parent.kill('SIGKILL')
    await until('the remote process is gone', () => isGone(pid))
    expect(existsSync(path)).toBe(false)
  })

  it('finishes what it was given when it may outlive it, and ends then', async () => {
    const path = join(directory, 'epilogue')
    const { parent, pid } = await startParent(fifo, path, 'outlive')
    parent.kill('SIGKILL')
    await until('the parent is gone', () => isGone(parent.pid as number))
    expect(isGone(pid)).toBe(false)
    const end = openSync(fifo, 'r+')
    writeSync(end, 'x')
    await until('the epilogue is written', () => existsSync(path) && readFileSync(path, 'utf8') === 'epilogue')
    await until('the remote process is gone', () => isGone(pid))
    closeSync(end)
  })

  it('before it could ask to die with it makes nothing of its first batch', async () => {
    const { here, there } = socketPair()
    const pid = spawnProgram(new Map([[3, there]]))
    perform(close(there))
    process.kill(pid, 'SIGSTOP')
    await until('it is stopped', () => statusOf(pid)?.get('State')?.startsWith('T') === true)
    const path = join(directory, 'orphaned')
    const memory = Buffer.alloc(headerSize + messageCapacity)
    const calls = [prctl(PR.SET_PDEATHSIG, SIGKILL), checkPeer(3), mkdirat(AT_FDCWD, path, 0o700)]
    const { size } = encode(calls, memory, { architecture: hostArchitecture(), address: messageAddress })
    writeSync(here, memory, 0, size)
    perform(close(here)) // as the kernel does when the parent dies
    process.kill(pid, 'SIGCONT')
    await until('the remote process is gone', () => isGone(pid))
    await reap(pid)
    expect(existsSync(path)).toBe(false)
  })

  it('makes its first batch when the parent lives: the check says nothing then', async () => {
    await using remote = Remote.spawn()
    const path = join(directory, 'alive')
    await remote.run([checkPeer(3), mkdirat(AT_FDCWD, path, 0o700)])
    expect(existsSync(path)).toBe(true)
  })
})

describe('a remote process that is let go', () => {
  it('makes what it was given, and leaves no zombie in a parent that lives on', async () => {
    const remote = Remote.spawn({ outlive: true })
    const pair = out(8)
    const pipe = (await remote.run([pipe2(pair, 0)])).bytes(pair)
    remote.run([read(pipe.readInt32LE(0), out(1))]).catch(() => {})
    await remote.release()
    await remote.close() // does nothing to it
    expect(isGone(remote.pid)).toBe(false)
    process.kill(remote.pid, 'SIGKILL')
    await until('it has ended', () => isGone(remote.pid))
    expect(children()).toContain(remote.pid)
    await Remote.spawn().close()
    expect(children()).not.toContain(remote.pid)
  })
})

describe('a remote process that is dismissed', () => {
  it('is killed at once, and leaves the process table without being waited for', async () => {
    const remote = Remote.spawn()
    const pair = out(8)
    const pipe = (await remote.run([pipe2(pair, 0)])).bytes(pair)
    const blocked = remote.run([read(pipe.readInt32LE(0), out(1))])
    remote.dismiss()
    remote.dismiss()
    await expect(blocked).rejects.toBeInstanceOf(RemoteExitError)
    await until('it is no child any more', () => !children().includes(remote.pid))
    await remote.close()
  })
})

describe('starting remote processes', () => {
  it('a thousand times leaves no zombie, descriptor or memory behind', async () => {
    setV8Flags('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    const cycle = async (times: number): Promise<NodeJS.MemoryUsage> => {
      for (let i = 0; i < times; i++) {
        const remote = Remote.spawn()
        await remote.run([call('getpid', [])])
        await remote.close()
      }
      collect()
      return process.memoryUsage()
    }
    const before = await cycle(500)
    const [descriptors, processes] = [descriptorsOf('self').size, children().length]
    const after = await cycle(1000)
    expect(descriptorsOf('self').size).toBe(descriptors)
    expect(children().length).toBe(processes)
    expect(after.heapUsed - before.heapUsed).toBeLessThan(2 << 20)
    expect(after.external - before.external).toBeLessThan(1 << 20)
    // What the allocator keeps for later goes up and down by some 15 MB; a leaked page a process would be 4 MB more.
    expect(after.rss - before.rss).toBeLessThan(24 << 20)
  })

  it('thirty at a time works as well', async () => {
    const processes = children().length
    for (let round = 0; round < 5; round++) {
      const group = Array.from({ length: 30 }, () => Remote.spawn())
      const pid = call('getpid', [])
      const results = await Promise.all(group.map((remote) => remote.run([pid])))
      expect(results.map((each) => each.value(pid))).toEqual(group.map((remote) => remote.pid))
      await Promise.all(group.map((remote) => remote.close()))
    }
    expect(children().length).toBe(processes)
  })

  it('keeps no event loop alive', async () => {
    const script = `
      const { Remote } = await import(${JSON.stringify(new URL('../../../src/linux/remote/remote.ts', import.meta.url).href)})
      const remote = Remote.spawn()
      await remote.run([{ kind: 'call', name: 'getpid', args: [] }])
      console.log('done')`
    const args = ['--import', 'tsx', '--input-type=module', '-e', script]
    const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 20_000 })
    expect(stdout.trim()).toBe('done')
  })

  it('without descriptors left says so and leaves nothing behind', async () => {
    await Remote.spawn().close()
    const limits = readFileSync('/proc/self/limits', 'utf8')
    const [, soft = '', hard = ''] = /Max open files\s+(\d+)\s+(\d+)/.exec(limits) ?? []
    const noFile = 7
    const descriptors = descriptorsOf('self')
    try {
      for (let room = 0; room < 3; room++) {
        // The lowest number that is free, and so many more.
        let lowest = 0
        for (let free = 0; free <= room; lowest++) if (!descriptors.has(lowest)) free++
        perform(setrlimit(noFile, BigInt(lowest - 1), BigInt(hard)))
        const remote = ((): Remote | unknown => {
          try {
            return Remote.spawn()
          } catch (error) {
            return error
          }
        })()
        if (remote instanceof Remote) await remote.close()
        else {
          expect(remote).toBeInstanceOf(SyscallError)
          expect(remote).toMatchObject({ errnoName: 'EMFILE' })
        }
      }
    } finally {
      perform(setrlimit(noFile, BigInt(soft), BigInt(hard)))
    }
    expect(descriptorsOf('self')).toEqual(descriptors)
    await Remote.spawn().close()
  })
})

describe('the kernel interface in worker threads', () => {
  const run = async (...args: readonly string[]): Promise<readonly unknown[]> => {
    const { stdout } = await promisify(execFile)(process.execPath, node('worker.ts', ...args))
    return JSON.parse(stdout) as readonly unknown[]
  }

  it('is refused with a reason when the main thread has not loaded it', async () => {
    for (const outcome of await run()) {
      expect(outcome).toMatchObject({
        code: 'ERR_OCI_UNSUPPORTED',
        message: expect.stringMatching(/worker thread and the main thread has not loaded it\n.*prepare\(\)/),
      })
    }
  })

  it('works in several at once when the main thread has', async () => {
    for (const outcome of await run('loaded')) expect(outcome).toEqual({ here: true, there: true })
  })
})

describe.skipIf(!isRoot)('where a memfd may not be executed (vm.memfd_noexec=2; skipped without root)', () => {
  it('the program is a file without a name, a new one each time', async () => {
    const command = 'echo 2 > /proc/sys/vm/memfd_noexec && exec "$@"'
    const args = ['-p', '-f', '--mount-proc', 'sh', '-c', command, 'sh', process.execPath, ...node('noexec.ts')]
    const { stdout } = await promisify(execFile)('unshare', args)
    const { programs, leaked } = JSON.parse(stdout) as { programs: readonly string[]; leaked: number }
    for (const program of programs) expect(program).toMatch(/^\/.*\/oci-ts-\w+\/remote \(deleted\)$/)
    expect(programs[0]).not.toBe(programs[1])
    expect(leaked).toBeLessThanOrEqual(1) // the mark that libc is loaded
  })
})
