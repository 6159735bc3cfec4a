import { closeSync, ftruncateSync, openSync, readFileSync, readlinkSync, writeSync } from 'node:fs'
import { afterEach, describe, expect, it } from 'vitest'
import { InvalidArgumentError } from '../../../src/errors.ts'
import { call, out } from '../../../src/linux/call.ts'
import { AT_FDCWD, close, fcntl, O, read } from '../../../src/linux/calls/files.ts'
import { perform } from '../../../src/linux/local.ts'
import { remoteExecutable } from '../../../src/linux/remote/executable.ts'
import { Remote, type RemoteOptions } from '../../../src/linux/remote/remote.ts'
import { descriptorsOf, isRoot, statusOf } from '../support.ts'

const PR_GET_PDEATHSIG = 2
const PR_GET_DUMPABLE = 3
const F_DUPFD = 0

const open: Remote[] = []
afterEach(async () => {
  await Promise.all(open.splice(0).map((remote) => remote.close()))
})

async function start(options?: RemoteOptions): Promise<Remote> {
  const remote = Remote.spawn(options)
  open.push(remote)
  await remote.run([call('getpid', [])])
  return remote
}

describe('a remote process', () => {
  it('has the descriptors it was given and no others', async () => {
    // Not close-on-exec, on both sides of those that are given.
    const inherited = perform(call('openat', [AT_FDCWD, '/dev/zero', O.RDONLY, 0]))
    const high = perform(fcntl(inherited, F_DUPFD, 600))
    try {
      const given = new Map([
        [8, inherited],
        [30, inherited],
      ])
      const remote = await start({ descriptors: given, dumpable: true })
      const found = descriptorsOf(remote.pid)
      expect([...found.keys()].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 8, 30])
      expect(['0', '1', '2', '8', '30'].map((fd) => found.get(Number(fd)))).toEqual([
        '/dev/null',
        '/dev/null',
        '/dev/null',
        '/dev/zero',
        '/dev/zero',
      ])
      expect(found.get(3)).toMatch(/^socket:/)
    } finally {
      for (const fd of [inherited, high]) perform(close(fd))
    }
  })

  it('gets standard streams, also when their numbers cross', async () => {
    const [zero, nothing] = [openSync('/dev/zero', 'r'), openSync('/dev/null', 'r')]
    try {
      const crossed = new Map([
        [0, zero],
        [zero, 0],
        [1, nothing],
        [nothing, zero],
      ])
      const remote = await start({ descriptors: crossed, dumpable: true })
      const found = descriptorsOf(remote.pid)
      expect(found.get(0)).toBe('/dev/zero')
      expect(found.get(zero)).toBe(readlinkSync('/proc/self/fd/0'))
      expect(found.get(nothing)).toBe('/dev/zero')
    } finally {
      for (const fd of [zero, nothing]) closeSync(fd)
    }
  })

  it('is the program even when a descriptor takes the number of its executable', async () => {
    await start()
    const zero = openSync('/dev/zero', 'r')
    try {
      for (let fd = 4; fd < 60; fd++) {
        const remote = await start({ descriptors: new Map([[fd, zero]]) })
        await remote.close()
      }
    } finally {
      closeSync(zero)
    }
  })

  it.each([
    ['its own socket', new Map([[3, 0]])],
    ['a negative number', new Map([[4, -1]])],
    ['a fraction', new Map([[4.5, 0]])],
  ])('is not started with %s as a descriptor', (_, descriptors) => {
    const before = descriptorsOf('self').size
    expect(() => Remote.spawn({ descriptors })).toThrow(InvalidArgumentError)
    expect(descriptorsOf('self').size).toBe(before)
  })

  it('is not started with a descriptor that is not open', () => {
    expect(() => Remote.spawn({ descriptors: new Map([[900, 901]]) })).toThrow(/start a remote process: .*EBADF/)
  })

  it('hides from /proc, and shows itself when asked to', async () => {
    const dumpable = call('prctl', [PR_GET_DUMPABLE, 0, 0, 0, 0])
    expect((await (await start()).run([dumpable])).value(dumpable)).toBe(0)
    expect((await (await start({ dumpable: true })).run([dumpable])).value(dumpable)).toBe(1)
  })

  it('asks to be killed with its parent unless it may outlive it', async () => {
    const signal = out(4)
    const ask = call('prctl', [PR_GET_PDEATHSIG, signal, 0, 0, 0])
    expect((await (await start()).run([ask])).bytes(signal).readInt32LE(0)).toBe(9)
    expect((await (await start({ outlive: true })).run([ask])).bytes(signal).readInt32LE(0)).toBe(0)
  })

  it('blocks and ignores no signal, has a session of its own and one thread', async () => {
    const remote = await start()
    const status = statusOf(remote.pid)
    expect(status?.get('SigBlk')).toBe('0'.repeat(16))
    expect(status?.get('SigIgn')).toBe('0'.repeat(16)) // Node ignores SIGPIPE; that would be inherited
    expect(status?.get('SigCgt')).toBe('0'.repeat(16))
    expect(status?.get('Threads')).toBe('1')
    const stat = readFileSync(`/proc/${remote.pid}/stat`, 'utf8')
    const [, , group, session] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    expect([group, session]).toEqual([String(remote.pid), String(remote.pid)])
  })

  it.skipIf(!isRoot)('has an empty environment and takes little memory (skipped without root: it hides)', async () => {
    const remote = await start()
    expect(readFileSync(`/proc/${remote.pid}/environ`, 'utf8')).toBe('')
    const kilobytes = Number.parseInt(statusOf(remote.pid)?.get('VmRSS') ?? '', 10)
    expect(kilobytes).toBeLessThan(200)
  })

  it('gives no privilege of its own: it runs as its parent does', async () => {
    const uid = call('geteuid', [])
    expect((await (await start()).run([uid])).value(uid)).toBe(process.geteuid?.())
  })
})

describe('the program of remote processes', () => {
  const sealed = (): number => {
    for (const [fd, target] of descriptorsOf('self')) if (target === '/memfd:oci-ts (deleted)') return fd
    throw new Error('there is no sealed file')
  }
  const unchanged = (): void => {
    expect(readFileSync(`/proc/self/fd/${sealed()}`)).toEqual(Buffer.from(remoteExecutable(process.arch as 'x64')))
  }

  it('can’t be written, cut or grown by whoever has its descriptor', async () => {
    await start()
    const fd = sealed()
    expect(() => writeSync(fd, 'x', 0)).toThrow(/EPERM/)
    expect(() => ftruncateSync(fd, 0)).toThrow(/EPERM/)
    expect(() => ftruncateSync(fd, 1 << 20)).toThrow(/EPERM/)
    unchanged()
  })

  it.skipIf(!isRoot)('can’t be written through /proc/<pid>/exe, running or not (skipped without root)', async () => {
    const remote = await start()
    const path = `/proc/${remote.pid}/exe`
    // As an attacker does (CVE-2019-5736): hold on to it while it runs, write when it does not.
    const O_PATH = 0o10000000
    const held = openSync(path, O_PATH)
    expect(() => writeSync(openSync(path, 'r+'), 'x')).toThrow(/ETXTBSY|EPERM/)
    await remote.close()
    try {
      expect(() => {
        const fd = openSync(`/proc/self/fd/${held}`, 'r+')
        try {
          writeSync(fd, 'x')
        } finally {
          closeSync(fd)
        }
      }).toThrow(/EPERM/)
    } finally {
      closeSync(held)
    }
    unchanged()
  })

  it('is made once', async () => {
    await start()
    const fd = sealed()
    await start()
    expect(sealed()).toBe(fd)
    expect([...descriptorsOf('self').values()].filter((each) => each.startsWith('/memfd:oci-ts ')).length).toBe(1)
  })

  it('reads from descriptors as any process does', async () => {
    const zero = openSync('/dev/zero', 'r')
    const remote = await start({ descriptors: new Map([[5, zero]]) })
    closeSync(zero)
    const to = out(16)
    const got = read(5, to)
    const results = await remote.run([got])
    expect(results.value(got)).toBe(16)
    expect(results.bytes(to)).toEqual(Buffer.alloc(16))
  })
})
