import { closeSync, openSync } from 'node:fs'
import { afterEach, describe, expect, it } from 'vitest'
import { RemoteExitError } from '../../../src/errors.ts'
import { hostArchitecture } from '../../../src/linux/architecture.ts'
import { call, type Out, out } from '../../../src/linux/call.ts'
import { close } from '../../../src/linux/calls/files.ts'
import { clone, exitGroup, siginfoSize, waitForExit } from '../../../src/linux/calls/processes.ts'
import { perform } from '../../../src/linux/local.ts'
import { Channel } from '../../../src/linux/remote/channel.ts'
import { Remote, socketPair } from '../../../src/linux/remote/remote.ts'
import { borrowParent, borrowSpare, childSocket, giveBack } from '../../../src/linux/remote/spares.ts'
import { children, isGone, until } from '../support.ts'

const text = 'box'
afterEach(() => until('every remote process has ended', () => children().every(isGone)))

function made(descriptors: ReadonlyMap<number, number>): Remote {
  return Remote.spawn({ descriptors, outlive: true })
}

describe('a remote process that is given back', () => {
  it('is the next one for the same numbers, and has what it is handed and nothing else', async () => {
    const [first, second] = [openSync('/', 'r'), openSync('/proc', 'r')]
    const numbers = [9, 0, 4]
    const all = (fd: number): ReadonlyMap<number, number> => new Map(numbers.map((number) => [number, fd]))
    const remote = made(all(first))
    await remote.run([call('dup3', [4, 20, 0])])
    giveBack(remote, all(first))
    expect(borrowSpare(new Map([[4, second]]), text)).toBeUndefined()
    const again = borrowSpare(all(second), text) as Remote
    expect(again).toBe(remote)
    const paths = Array.from({ length: 21 }, () => out(64))
    const reads = paths.map((path, fd) =>
      call('readlinkat', [-100, `/proc/self/fd/${fd}`, path, 64], { tolerate: 'ENOENT' }),
    )
    const results = await again.run(reads)
    const targets = reads.map((read, fd) =>
      results.bytes(paths[fd] as Out).toString('utf8', 0, Math.max(0, results.value(read))),
    )
    const found = new Map(targets.flatMap((target, fd) => (target === '' ? [] : [[fd, target.replace(/:.*/, '')]])))
    expect(Object.fromEntries(found)).toEqual({
      0: '/proc',
      1: '/dev/null',
      2: '/dev/null',
      3: 'socket',
      4: '/proc',
      9: '/proc',
    })
    closeSync(first)
    closeSync(second)
    await again.close()
  })

  it('is used by one at a time', async () => {
    const remote = made(new Map())
    giveBack(remote, new Map())
    expect(borrowSpare(new Map(), text)).toBe(remote)
    expect(borrowSpare(new Map(), text)).toBeUndefined()
    await remote.close()
  })

  it('ends when nobody wants it soon', async () => {
    const remote = made(new Map())
    giveBack(remote, new Map())
    expect(isGone(remote.pid)).toBe(false)
    await until('it has ended', () => isGone(remote.pid))
    expect(borrowSpare(new Map(), text)).toBeUndefined()
  })

  it('ends when its maker does', async () => {
    const remote = made(new Map())
    giveBack(remote, new Map())
    // As the kernel does: the last descriptor of the other end is closed.
    await remote.release()
    await until('it has ended', () => isGone(remote.pid))
  })

  it('is not taken when it was killed meanwhile', async () => {
    const remote = made(new Map())
    giveBack(remote, new Map())
    process.kill(remote.pid, 'SIGKILL')
    await remote.closed
    expect(borrowSpare(new Map(), text)).toBeUndefined()
    await expect(remote.run([call('getpid', [])])).rejects.toThrow(RemoteExitError)
  })

  it('keeps the socket of those that it makes, for one after the other', async () => {
    const { here, there } = socketPair()
    const remote = made(new Map([[childSocket, there]]))
    let children = new Channel(here, { architecture: hostArchitecture() })
    for (let i = 0; i < 3; i++) {
      const cloned = clone({ flags: 0, childSocket })
      const pid = (await remote.run([cloned])).value(cloned)
      const getpid = call('getpid', [])
      expect((await children.run([getpid])).value(getpid)).toBe(pid)
      children.post([exitGroup(0)])
      await remote.run([waitForExit(pid, out(siginfoSize))])
      children.leave()
      giveBack(remote, new Map(), children)
      expect(borrowSpare(new Map(), text)).toBeUndefined()
      const again = borrowParent(new Map(), text)
      expect(again).toEqual({ remote, children })
      children = again?.children as Channel
      expect(borrowParent(new Map(), text)).toBeUndefined()
    }
    // One that was not left may have somebody at its other end.
    giveBack(remote, new Map(), children)
    expect(borrowParent(new Map(), text)).toBeUndefined()
    expect(children.isOpen).toBe(false)
    closeSync(there)
  })

  it('is not kept when it has ended already', async () => {
    const { here, there } = socketPair()
    const remote = made(new Map([[4, there]]))
    await remote.run([call('getpid', [])])
    await remote.close()
    giveBack(remote, new Map([[4, there]]))
    expect(borrowSpare(new Map([[4, there]]), text)).toBeUndefined()
    for (const fd of [here, there]) perform(close(fd))
  })
})
