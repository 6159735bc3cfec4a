import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { InvalidArgumentError, LimitError, SyscallError } from '../../src/errors.ts'
import { call, out } from '../../src/linux/call.ts'
import {
  AT_FDCWD,
  close,
  fcntl,
  mkdirat,
  O,
  openat,
  pipe2,
  read,
  readlinkat,
  write,
} from '../../src/linux/calls/files.ts'
import { clone, getppid, kill } from '../../src/linux/calls/processes.ts'
import { libc } from '../../src/linux/libc.ts'
import { perform, performFor } from '../../src/linux/local.ts'

const directory = mkdtempSync(join(tmpdir(), 'oci-ts-local-'))
afterAll(() => rmSync(directory, { recursive: true }))

describe('perform', () => {
  it('makes a call in this process', () => {
    expect(perform(call('getpid', []))).toBe(process.pid)
    expect(perform(getppid())).toBe(process.ppid)
  })

  it('takes strings, bytes and results that were read before', () => {
    const path = join(directory, 'füle')
    const fd = perform(openat(AT_FDCWD, path, O.WRONLY | O.CREAT, 0o600))
    expect(perform(write(fd, 'héllo'))).toBe(6)
    expect(perform(write(fd, Uint8Array.of(0, 255)))).toBe(2)
    perform(close(fd))
    expect(readFileSync(path)).toEqual(Buffer.from([...Buffer.from('héllo'), 0, 255]))
  })

  it('keeps what the kernel wrote when other calls follow', () => {
    const exe = out(256)
    const cwd = out(256)
    const first = performFor(readlinkat(AT_FDCWD, '/proc/self/exe', exe))
    const second = performFor(readlinkat(AT_FDCWD, '/proc/self/cwd', cwd))
    expect(first.bytes(exe).toString('utf8', 0, first.value)).toBe(process.execPath)
    expect(second.bytes(cwd).toString('utf8', 0, second.value)).toBe(process.cwd())
    expect(() => first.bytes(cwd)).toThrow(InvalidArgumentError)
  })

  it('tells what failed, why, on which path and for what', () => {
    const step = 'make the run directory'
    const failing = { ...mkdirat(AT_FDCWD, '/proc/nowhere/x', 0o700, { step }), pointer: '/mounts/3' }
    expect(() => perform(failing)).toThrow(
      expect.objectContaining({
        name: 'SyscallError',
        code: 'ERR_OCI_SYSCALL',
        syscall: 'mkdirat',
        errno: 2,
        errnoName: 'ENOENT',
        path: '/proc/nowhere/x',
        subject: '/proc/nowhere/x',
        step,
        pointer: '/mounts/3',
        message: 'make the run directory: mkdirat "/proc/nowhere/x": no such file or directory (ENOENT)',
      }),
    )
  })

  it('gives the negative errno of a failure that is tolerated, and no other', () => {
    expect(perform(close(-1, { tolerate: 'EBADF' }))).toBe(-9)
    expect(perform(close(-1, { tolerate: 'any' }))).toBe(-9)
    expect(() => perform(close(-1, { tolerate: 'ENOENT' }))).toThrow(SyscallError)
  })

  it('names errors that Node has no name for', () => {
    // pid 1 exists, but signal 65 does not: EINVAL; the rest of the table is looked at in errno.test.ts.
    expect(() => perform(kill(1, 65))).toThrow(/EINVAL/)
  })

  it('moves values of 64 bits whole', () => {
    const fd = perform(openat(AT_FDCWD, directory, O.RDONLY))
    // A result beyond 32 bits: the address of new memory.
    const address = perform(call('mmap', [0, 4096, 3, 0x22, -1, 0]))
    expect(address).toBeGreaterThan(2 ** 32)
    perform(call('munmap', [address, 4096]))
    perform(close(fd))
  })

  it('refuses what can’t be encoded before anything is done', () => {
    const path = `${directory}/nul`
    expect(() => perform(mkdirat(AT_FDCWD, `${path}\0x`, 0o700))).toThrow(InvalidArgumentError)
    expect(() => perform(read(0, out(1 << 21)))).toThrow(LimitError)
    expect(execFileSync('ls', [directory], { encoding: 'utf8' })).not.toContain('nul')
  })

  it('refuses to make a child of Node', () => {
    expect(() => perform(clone({ flags: 0, childSocket: 4 }))).toThrow(/only in a remote process/)
  })

  it('writes two results to one piece of memory', () => {
    const pair = out(8)
    const pipe = performFor(pipe2(pair, O.CLOEXEC)).bytes(pair)
    const [from, to] = [pipe.readInt32LE(0), pipe.readInt32LE(4)]
    perform(write(to, 'x'))
    const byte = out(4)
    expect(performFor(read(from, byte)).bytes(byte).toString('utf8', 0, 1)).toBe('x')
    for (const fd of [from, to]) perform(close(fd))
    expect(() => perform(fcntl(from, 1, 0))).toThrow(/EBADF/)
  })
})

describe('libc', () => {
  it('refuses wrong types, numbers and counts before the call', () => {
    const door = libc()
    expect(() => door.syscall(39, 1 as never)).toThrow(InvalidArgumentError)
    expect(() => door.syscall(39, 2n ** 64n)).toThrow(/no bigint of 64 bits/)
    expect(() => door.syscall(-1)).toThrow(InvalidArgumentError)
    expect(() => door.syscall(39, 1n, 2n, 3n, 4n, 5n, 6n, 7n)).toThrow(/at most six/)
    expect(() => door.call('posix_spawnattr_init')).toThrow(/takes 1 arguments, not 0/)
    expect(() => door.call('posix_spawnattr_init', 0.5)).toThrow(/0.5 is no integer/)
    expect(() => door.call('posix_spawnattr_init', 'x' as never)).toThrow(InvalidArgumentError)
    expect(() => door.call('system' as never, 0)).toThrow(InvalidArgumentError)
  })

  it('leaves what it changed for loading as it was', () => {
    libc()
    expect(Reflect.get(process.report, 'excludeNetwork')).not.toBe(true)
  })

  it('is loaded without a diagnostic report, which takes long', () => {
    const libc = fileURLToPath(new URL('../../src/linux/libc.ts', import.meta.url))
    const script = `process.report.getReport = () => { throw new Error('asked for a report') }
      const { libc } = await import(${JSON.stringify(libc)})
      console.log(libc().syscall(39) === process.pid)`
    const { stdout, stderr } = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
      cwd: dirname(libc),
      encoding: 'utf8',
    })
    expect({ stdout, stderr }).toEqual({ stdout: 'true\n', stderr: '' })
  })

  it('is one for the process', () => {
    expect(libc()).toBe(libc())
  })

  it('gives memory that is zero and stays', () => {
    const { address, bytes } = libc().allocate(10_000)
    expect(address % 4096).toBe(0)
    expect(bytes.length).toBe(10_000)
    expect(bytes.every((byte) => byte === 0)).toBe(true)
  })
})
