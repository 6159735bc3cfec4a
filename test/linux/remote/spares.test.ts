import { closeSync, openSync } from 'node:fs'
import { afterEach, describe, expect, it } from 'vitest'
import { RemoteExitError } from '../../../src/errors.ts'
import { call, out } from '../../../src/linux/call.ts'
import { close, F_GETFD, fcntl } from '../../../src/linux/calls/files.ts'
import { perform } from '../../../src/linux/local.ts'
import { Remote, socketPair } from '../../../src/linux/remote/remote.ts'
import { borrowSpare, giveBack } from '../../../src/linux/remote/spares.ts'
import { children, isGone, until } from '../support.ts'

const text = 'box'
afterEach(() => until('every remote process has ended', () => children().every(isGone)))

function made(descriptors: ReadonlyMap<number, number>): Remote {
  return Remote.spawn({ descriptors, outlive: true })
}

/** Whether numbers are open in a remote process. */
async function open(remote: Remote, numbers: readonly number[]): Promise<readonly boolean[]> {
  const looks = numbers.map((number) => fcntl(number, F_GETFD, 0, { tolerate: 'EBADF' }))
  const results = await remote.run(looks)
  return looks.map((look) => results.value(look) >= 0)
}

describe('a remote process that is given back', () => {
  it('is the next one for the same numbers, and has what it is handed and nothing else', async () => {
    const [first, second] = [openSync('/', 'r'), openSync('/proc', 'r')]
    const remote = made(
      new Map([
        [4, first],
        [9, first],
      ]),
    )
    await remote.run([call('dup3', [4, 20, 0])])
    giveBack(
      remote,
      new Map([
        [4, first],
        [9, first],
      ]),
    )
    expect(borrowSpare(new Map([[4, first]]), text)).toBeUndefined()
    const again = borrowSpare(
      new Map([
        [9, second],
        [4, first],
      ]),
      text,
    ) as Remote
    expect(again).toBe(remote)
    expect(await open(again, [0, 1, 2, 3, 4, 5, 6, 9, 20])).toEqual([
      true,
      true,
      true,
      true,
      true,
      false,
      false,
      true,
      false,
    ])
    const path = out(64)
    const read = call('readlinkat', [-100, '/proc/self/fd/9', path, 64])
    const size = (await again.run([read])).value(read)
    expect(size).toBe('/proc'.length)
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
    await until('it is gone', () => isGone(remote.pid))
    expect(borrowSpare(new Map(), text)).toBeUndefined()
    await expect(remote.run([call('getpid', [])])).rejects.toThrow(RemoteExitError)
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
