import { describe, expect, it } from 'vitest'
import { InvalidArgumentError, SyscallError } from '../../src/errors.ts'
import { call, out } from '../../src/linux/call.ts'
import { AT_FDCWD, close, fcntl, mkdirat, O, openat, pipe2, read, write } from '../../src/linux/calls/files.ts'
import { mount } from '../../src/linux/calls/mounts.ts'
import { clone } from '../../src/linux/calls/processes.ts'
import { FakeRunner } from '../../src/linux/fake.ts'
import type { CallRunner } from '../../src/linux/runner.ts'

const proc = (target: string) => mount('proc', target, 'proc', 0, 0, { step: `mount ${target}` })

describe('the fake', () => {
  it('records what it is given, in order, and stands where a remote process would', async () => {
    const fake = new FakeRunner()
    const runner: CallRunner = fake
    const file = openat(AT_FDCWD, '/a', O.RDONLY)
    await runner.run([file, close(file)])
    fake.perform(mkdirat(AT_FDCWD, '/b', 0o700))
    expect(fake.names).toEqual(['openat', 'close', 'mkdirat'])
    expect(fake.calls[1]?.args).toEqual([file])
    expect(fake.batches.length).toBe(1)
  })

  it('answers as a kernel would that lets everything succeed', async () => {
    const fake = new FakeRunner()
    const [one, two] = [openat(AT_FDCWD, '/a', O.RDONLY), openat(AT_FDCWD, '/b', O.RDONLY)]
    const copy = fcntl(one, 1030, 10)
    const child = clone({ flags: 0, childSocket: 4 })
    const written = write(two, 'héllo')
    const content = out(10)
    const got = read(one, content)
    const pair = out(8)
    const results = await fake.run([one, two, copy, child, written, got, pipe2(pair, 0), proc('/proc')])
    const values = [one, two, copy, child, written, got].map((each) => results.value(each))
    expect(values).toEqual([100, 101, 102, 1000, 6, 0])
    expect(results.bytes(content)).toEqual(Buffer.alloc(10))
    expect([results.bytes(pair).readInt32LE(0), results.bytes(pair).readInt32LE(4)]).toEqual([103, 104])
  })

  it('fails the n-th call of all', async () => {
    const fake = new FakeRunner().fail(2, 'ENOSPC')
    await fake.run([proc('/one')])
    const error = await fake.run([proc('/two'), proc('/three'), proc('/four')]).catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(SyscallError)
    expect(error).toMatchObject({ errnoName: 'ENOSPC', path: '/three', step: 'mount /three' })
    expect(fake.calls.map((each) => each.path)).toEqual(['/one', '/two', '/three'])
    expect(fake.batches[1]?.length).toBe(3)
  })

  it('fails calls of a name, or that are chosen by a look at them, as often as it is told', async () => {
    const fake = new FakeRunner().fail('mount', 'EPERM').fail((each) => each.path === '/x', 'EIO', 2)
    await expect(fake.run([proc('/a')])).rejects.toMatchObject({ errnoName: 'EPERM' })
    await fake.run([proc('/a')])
    for (let i = 0; i < 2; i++) expect(() => fake.perform(mkdirat(AT_FDCWD, '/x', 0))).toThrow(/EIO/)
    expect(fake.perform(mkdirat(AT_FDCWD, '/x', 0))).toBe(0)
  })

  it('respects what a call tolerates', async () => {
    const fake = new FakeRunner().fail('mkdirat', 'EEXIST', 3)
    const tolerant = mkdirat(AT_FDCWD, '/x', 0, { tolerate: 'EEXIST' })
    const any = mkdirat(AT_FDCWD, '/y', 0, { tolerate: 'any' })
    const results = await fake.run([tolerant, any])
    expect([results.value(tolerant), results.value(any)]).toEqual([-17, -17])
    await expect(fake.run([mkdirat(AT_FDCWD, '/z', 0, { tolerate: 'ENOENT' })])).rejects.toThrow(/EEXIST/)
  })

  it('answers what it is told, the latest rule first', async () => {
    const content = out(8)
    const got = read(3, content)
    const fake = new FakeRunner().answer('read', { bytes: [Buffer.from('first')] })
    expect((await fake.run([got])).value(got)).toBe(5)
    fake.answer('read', { value: 2, bytes: [Buffer.from('second and too long')] }, 1)
    const results = await fake.run([got])
    expect(results.value(got)).toBe(2)
    expect(results.bytes(content).toString()).toBe('second a')
    expect((await fake.run([got])).bytes(content).toString('utf8', 0, 5)).toBe('first')
    expect(fake.performFor(got).bytes(content).toString('utf8', 0, 5)).toBe('first')
  })

  it('refuses what a real process would refuse, before it records it', async () => {
    const fake = new FakeRunner()
    await expect(fake.run([call('chdir', ['a\0b'])])).rejects.toBeInstanceOf(InvalidArgumentError)
    await expect(fake.run([close(call('getpid', []))])).rejects.toBeInstanceOf(InvalidArgumentError)
    await expect(fake.run([])).rejects.toBeInstanceOf(InvalidArgumentError)
    expect(() => fake.fail(0, 'EWHATEVER')).toThrow(/no errno is named/)
    expect(fake.calls).toEqual([])
    const results = await fake.run([proc('/')])
    expect(() => results.value(proc('/'))).toThrow(InvalidArgumentError)
    expect(() => results.bytes(out(1))).toThrow(InvalidArgumentError)
  })
})
