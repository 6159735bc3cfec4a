import { closeSync, fstatSync, readSync, writeSync } from 'node:fs'
import { afterEach, describe, expect, it } from 'vitest'
import { InvalidArgumentError, RemoteExitError } from '../../../src/errors.ts'
import { hostArchitecture } from '../../../src/linux/architecture.ts'
import { call } from '../../../src/linux/call.ts'
import { encode } from '../../../src/linux/encode.ts'
import { perform } from '../../../src/linux/local.ts'
import { Channel } from '../../../src/linux/remote/channel.ts'
import { headerSize, messageAddress, messageCapacity } from '../../../src/linux/remote/memory.ts'
import { reap } from '../../../src/linux/remote/reap.ts'
import { socketPair } from '../../../src/linux/remote/remote.ts'
import { spawnProgram } from '../../../src/linux/remote/spawn.ts'
import { isGone, until } from '../support.ts'

const architecture = hostArchitecture()
const cleanUp: (() => unknown)[] = []
afterEach(async () => {
  for (const each of cleanUp.splice(0)) await each()
})

describe('the program', () => {
  /** A process and the bare socket to it. */
  function start(): { readonly pid: number; readonly socket: number } {
    const { here, there } = socketPair()
    const pid = spawnProgram(new Map([[3, there]]))
    closeSync(there)
    cleanUp.push(
      () => closeSync(here),
      () => process.kill(pid, 'SIGKILL'),
      () => reap(pid),
    )
    return { pid, socket: here }
  }

  function message(count?: number): Buffer {
    const memory = Buffer.alloc(headerSize + messageCapacity)
    const { size } = encode([call('getpid', [])], memory, { architecture, address: messageAddress })
    if (count !== undefined) memory.writeUInt32LE(count, 4)
    return memory.subarray(0, size)
  }

  it('answers a whole message', () => {
    const { pid, socket } = start()
    writeSync(socket, message())
    const reply = Buffer.alloc(40)
    expect(readSync(socket, reply)).toBe(40)
    expect(reply.readInt32LE(12)).toBe(-1)
    expect(reply.readBigInt64LE(32)).toBe(BigInt(pid))
  })

  it('waits for the rest of a message that comes byte by byte', () => {
    const { pid, socket } = start()
    for (const byte of message()) writeSync(socket, Uint8Array.of(byte))
    const reply = Buffer.alloc(40)
    expect(readSync(socket, reply)).toBe(40)
    expect(reply.readBigInt64LE(32)).toBe(BigInt(pid))
  })

  it.each([
    ['announces more than there is memory for', () => header(messageCapacity + 1)],
    ['announces four gigabytes', () => header(0xffffffff)],
    ['announces calls without end', () => message(0x7fffffff)],
  ])('ends on a message that %s', async (_, make) => {
    const { pid, socket } = start()
    writeSync(socket, make())
    await until('it has ended', () => isGone(pid))
    expect(readSync(socket, Buffer.alloc(100))).toBe(0)
  })

  it('ends when its parent closes the socket, also in the middle of a message', async () => {
    for (const part of [message().subarray(0, 0), message().subarray(0, 10), message().subarray(0, 50)]) {
      const { here, there } = socketPair()
      const pid = spawnProgram(new Map([[3, there]]))
      closeSync(there)
      if (part.length > 0) writeSync(here, part)
      closeSync(here)
      await until('it has ended', () => isGone(pid))
      await reap(pid)
    }
  })

  function header(length: number): Buffer {
    const bytes = Buffer.alloc(headerSize)
    bytes.writeUInt32LE(length, 0)
    bytes.writeUInt32LE(1, 4)
    return bytes
  }
})

describe('a channel whose other end is not the program', () => {
  function start(): { readonly channel: Channel; readonly other: number } {
    const { here, there } = socketPair()
    const channel = new Channel(here, { architecture })
    cleanUp.push(
      () => channel.close(),
      () => closeSync(there),
    )
    return { channel, other: there }
  }

  const reply = (notMade: number, result = 0n): Buffer => {
    const bytes = Buffer.alloc(40)
    bytes.writeInt32LE(notMade, 12)
    bytes.writeBigInt64LE(result, 32)
    return bytes
  }

  it.each([
    ['says that a call failed which was not in the batch', reply(5)],
    ['says so of one before the first', reply(-7)],
    ['says that a call failed without an errno', reply(0, 3n)],
    ['says that a call failed with no errno of the kernel', reply(0, -5000n)],
  ])('is closed when it %s', async (_, bytes) => {
    const { channel, other } = start()
    const result = channel.run([call('getpid', [])])
    writeSync(other, bytes)
    await expect(result).rejects.toThrow(/an answer that makes no sense/)
    await channel.closed
    expect(channel.isOpen).toBe(false)
    await expect(channel.run([call('getpid', [])])).rejects.toBeInstanceOf(RemoteExitError)
  })

  it('tells of a process that became another program by the end of its socket, and of one that did not', async () => {
    const getpid = call('getpid', [])
    const { channel, other } = start()
    const stayed = channel.become([getpid])
    writeSync(other, reply(-1, 42n))
    expect((await stayed)?.value(getpid)).toBe(42)
    const failed = channel.become([getpid])
    writeSync(other, reply(0, -2n))
    await expect(failed).rejects.toMatchObject({ errnoName: 'ENOENT' })
    await expect(channel.become([])).rejects.toBeInstanceOf(InvalidArgumentError)
    const became = channel.become([getpid])
    perform(call('shutdown', [other, 2]))
    expect(await became).toBeUndefined()
    expect(channel.isOpen).toBe(false)
    expect(await channel.become([getpid])).toBeUndefined()
  })

  it('tells of a notice when it comes, before the answer, and needs none', async () => {
    const { channel, other } = start()
    const getpid = call('getpid', [])
    const told: string[] = []
    const ask = (name: string): Promise<unknown> =>
      channel.run([getpid], { notice: () => told.push(name) }).then(
        (results) => told.push(`${name} ${results.value(getpid)}`),
        (error: unknown) => told.push(`${name} ${String(error)}`),
      )
    const notice = reply(-2).subarray(0, 16)
    const first = ask('first')
    for (const byte of notice) {
      expect(told).toEqual([])
      writeSync(other, Uint8Array.of(byte))
      await new Promise((resolve) => setImmediate(resolve))
    }
    await until('it was told', () => told.length > 0)
    expect(told).toEqual(['first'])
    const others = ['second', 'third'].map(ask)
    writeSync(other, Buffer.concat([reply(-1, 1n), notice, reply(-1, 2n), reply(0, -2n)]))
    await Promise.all([first, ...others])
    expect(told.slice(1)).toEqual(['second', 'first 1', 'second 2', expect.stringMatching(/^third .*ENOENT/)])
  })

  it('is there for the next process when it was left, with nothing left in it', async () => {
    const getpid = call('getpid', [])
    const { channel, other } = start()
    expect(channel.welcome('next')).toBe(false)
    const [became, ran] = [channel.become([getpid]), channel.run([getpid])]
    channel.leave()
    expect(await became).toBeUndefined()
    await expect(ran).rejects.toBeInstanceOf(RemoteExitError)
    expect(channel.isOpen).toBe(false)
    await expect(channel.run([getpid])).rejects.toBeInstanceOf(RemoteExitError)
    // Whoever comes next would be given what is left for this one.
    expect(channel.welcome('next')).toBe(false)
    readSync(other, Buffer.alloc(1000))
    expect(channel.welcome('next')).toBe(true)
    const result = channel.run([getpid])
    writeSync(other, reply(-1, 7n))
    expect((await result).value(getpid)).toBe(7)
    // An answer that nobody waits for any more: whoever comes next must not get it.
    channel.run([getpid]).catch(() => {})
    readSync(other, Buffer.alloc(1000))
    channel.leave()
    writeSync(other, reply(-1, 8n))
    expect(channel.welcome('next')).toBe(false)
    await channel.closed
    expect(channel.welcome('next')).toBe(false)
  })

  it('is closed when it is left with what the kernel had no room for', async () => {
    const { channel } = start()
    const large = call('write', [1, new Uint8Array(900_000), 900_000])
    const result = channel.run([large])
    channel.leave()
    await expect(result).rejects.toBeInstanceOf(RemoteExitError)
    await channel.closed
    expect(channel.welcome('next')).toBe(false)
  })

  it('is closed when it says more than it was asked', async () => {
    const { channel, other } = start()
    const result = channel.run([call('getpid', [])])
    writeSync(other, Buffer.concat([reply(-1, 42n), Buffer.alloc(1)]))
    await result
    await channel.closed
  })

  it('is closed when it speaks first', async () => {
    const { channel, other } = start()
    writeSync(other, 'hello')
    await channel.closed
  })

  it('puts together answers that come in pieces', async () => {
    const { channel, other } = start()
    const [one, two] = [call('getpid', []), call('getpid', [])]
    const results = [channel.run([one]), channel.run([two])] as const
    const bytes = Buffer.concat([reply(-1, 1n), reply(-1, 2n)])
    for (const [from, to] of [
      [0, 3],
      [3, 39],
      [39, 60],
      [60, 80],
    ] as const) {
      writeSync(other, bytes.subarray(from, to))
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect((await results[0]).value(one)).toBe(1)
    expect((await results[1]).value(two)).toBe(2)
  })

  it('closes its descriptor, once', async () => {
    const { here, there } = socketPair()
    const channel = new Channel(here, { architecture })
    await Promise.all([channel.close(), channel.close()])
    expect(() => fstatSync(here)).toThrow(/EBADF/)
    closeSync(there)
  })
})

describe('messages in flight', () => {
  it('keep their content while later ones are encoded', async () => {
    // Nobody reads: after a few, the kernel takes no more and they wait in this process.
    const { here, there } = socketPair()
    const channel = new Channel(here, { architecture })
    const bytes = (fill: number): Uint8Array => new Uint8Array(100_000).fill(fill)
    const count = 20
    const results = Array.from({ length: count }, (_, i) => channel.run([call('write', [1, bytes(i), 100_000])]))
    const rejected = Promise.allSettled(results)
    const size = 32 + 8 + 56 + 100_000
    const chunk = Buffer.alloc(size)
    for (let i = 0; i < count; i++) {
      for (let at = 0; at < size; ) {
        try {
          at += readSync(there, chunk, at, size - at, null)
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
        }
        await new Promise((resolve) => setImmediate(resolve))
      }
      expect(chunk.subarray(96).every((byte) => byte === i)).toBe(true)
    }
    await channel.close()
    for (const each of await rejected) expect(each.status).toBe('rejected')
    closeSync(there)
  })

  it('are refused when they are empty', async () => {
    const { here, there } = socketPair()
    const channel = new Channel(here, { architecture })
    await expect(channel.run([])).rejects.toBeInstanceOf(InvalidArgumentError)
    await channel.close()
    closeSync(there)
  })
})
