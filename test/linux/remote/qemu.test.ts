import { type ChildProcess, spawn } from 'node:child_process'
import { chmodSync, closeSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { RemoteExitError } from '../../../src/errors.ts'
import { call, out } from '../../../src/linux/call.ts'
import { AT_FDCWD, close, O, openat, read, write } from '../../../src/linux/calls/files.ts'
import { clone, siginfoSize, waitForExit } from '../../../src/linux/calls/processes.ts'
import { Channel } from '../../../src/linux/remote/channel.ts'
import { remoteExecutable } from '../../../src/linux/remote/executable.ts'
import { socketPair } from '../../../src/linux/remote/remote.ts'
import { hasTool } from '../support.ts'

const emulator = 'qemu-aarch64-static'
const missing = !hasTool(emulator)

describe.skipIf(missing)('the arm64 program under qemu (skipped without qemu-user-static)', () => {
  const childSocket = 4
  let directory: string
  let emulated: ChildProcess
  let channel: Channel
  let child: Channel

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'oci-ts-arm64-'))
    const path = join(directory, 'remote')
    writeFileSync(path, remoteExecutable('arm64'))
    chmodSync(path, 0o700)
    const [own, childs] = [socketPair(), socketPair()]
    emulated = spawn(emulator, [path], { stdio: ['ignore', 'inherit', 'inherit', own.there, childs.there] })
    for (const { there } of [own, childs]) closeSync(there)
    channel = new Channel(own.here, { architecture: 'arm64' })
    child = new Channel(childs.here, { architecture: 'arm64' })
  })

  afterAll(async () => {
    emulated.kill('SIGKILL')
    await Promise.all([channel.close(), child.close()])
    rmSync(directory, { recursive: true })
  })

  it('makes a batch with chained results', async () => {
    const path = join(directory, 'written')
    const pid = call('getpid', [])
    const file = openat(AT_FDCWD, path, O.RDWR | O.CREAT, 0o600)
    const back = out(8)
    const calls = [pid, file, write(file, 'from arm64'), call('lseek', [file, 5, 0]), read(file, back), close(file)]
    const results = await channel.run(calls)
    expect(results.value(pid)).toBe(emulated.pid)
    expect(results.bytes(back).toString('utf8', 0, 5)).toBe('arm64')
    expect(readFileSync(path, 'utf8')).toBe('from arm64')
  })

  it('passes all six arguments, each as itself or as the result it stands for', async () => {
    const path = join(directory, 'six')
    const zero = call('getpid', [1], { tolerate: 'any' })
    // mmap(address, length, protection, flags, descriptor, offset) of a file, with the descriptor chained.
    const file = openat(AT_FDCWD, path, O.RDWR | O.CREAT, 0o600)
    const mapped = call('mmap', [0, 8192, 1, 2, file, 4096])
    const results = await channel.run([zero, file, mapped])
    expect(results.value(mapped)).toBeGreaterThan(0)
    const source = openat(AT_FDCWD, join(directory, 'written'), O.RDONLY)
    const copied = call('copy_file_range', [source, 0, file, 0, 4, 0])
    expect((await channel.run([file, source, copied])).value(copied)).toBe(4)
    expect(readFileSync(path, 'utf8')).toBe('from')
  })

  it('stops at the first failure that is not tolerated', async () => {
    const [pid, tolerated, any] = [call('getpid', []), close(99, { tolerate: 'EBADF' }), close(99, { tolerate: 'any' })]
    const results = await channel.run([tolerated, any, pid])
    expect([results.value(tolerated), results.value(any)]).toEqual([-9, -9])
    const failing = close(99, { step: 'close what is not open', tolerate: 'ENOENT' })
    await expect(channel.run([pid, failing, pid])).rejects.toMatchObject({ errnoName: 'EBADF', step: failing.step })
    expect((await channel.run([pid])).value(pid)).toBe(emulated.pid)
  })

  it('makes a child that answers on another socket', async () => {
    const [pid, parent] = [call('getpid', []), call('getppid', [])]
    const early = child.run([pid, parent])
    const birth = clone({ flags: 0, childSocket })
    const born = (await channel.run([birth, close(childSocket)])).value(birth)
    const results = await early
    expect(results.value(pid)).toBe(born)
    expect(results.value(parent)).toBe(emulated.pid)
    const info = out(siginfoSize)
    const waited = channel.run([waitForExit(born, info)])
    await expect(child.run([call('exit_group', [9])])).rejects.toBeInstanceOf(RemoteExitError)
    expect((await waited).bytes(info).readInt32LE(24)).toBe(9)
  })

  it('moves large batches and answers', async () => {
    const bytes = out(700_000)
    const pid = call('getpid', [])
    const results = await channel.run([pid, call('getpid', [bytes])])
    expect(results.bytes(bytes).length).toBe(bytes.size)
    expect((await channel.run([pid, call('getpid', [new Uint8Array(900_000)])])).value(pid)).toBe(emulated.pid)
  })

  it('ends when its socket does', async () => {
    const ended = new Promise((resolve) => emulated.once('exit', (code) => resolve(code)))
    await channel.close()
    expect(await ended).toBe(1)
  })
})
