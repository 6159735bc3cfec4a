import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { Agent, get, type IncomingMessage, request } from 'node:http'
import { type AddressInfo, createConnection, createServer, type Server, type Socket } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import fetch from 'node-fetch'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { withLargeReads } from '../../../src/distribution/network/large-reads.ts'

const mebibyte = 2 ** 20
/** More than what the buffers of both sides hold. */
const content = randomBytes(40 * mebibyte)
const hash = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
const digest = hash(content)
const head = (length = content.byteLength, status = '200 OK'): string =>
  `HTTP/1.1 ${status}\r\nContent-Length: ${length}\r\n\r\n`

/** What answers the requests of a test, each given as its first line. */
let answer: (socket: Socket, line: string) => void
let server: Server
let agent: Agent
let base = ''
let sockets: Socket[] = []

beforeEach(async () => {
  sockets = []
  server = createServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
    socket.on('data', (bytes) => answer(socket, bytes.toString('latin1').split('\r\n', 1)[0] as string))
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  agent = withLargeReads(new Agent({ keepAlive: true, maxSockets: 1 }), createConnection)
})

afterEach(async () => {
  agent.destroy()
  for (const socket of sockets) socket.destroy()
  server.close()
  await once(server, 'close')
})

async function response(): Promise<IncomingMessage> {
  const [message] = (await once(get(base, { agent }), 'response')) as [IncomingMessage]
  return message
}

/** A response whose reader has it after `bytes` bytes, paused; more than the parser has seen of it. */
async function inMidBody(bytes = 4 * mebibyte): Promise<IncomingMessage> {
  const message = await response()
  let seen = 0
  const onData = (piece: Buffer): void => {
    seen += piece.byteLength
    if (seen >= bytes) message.pause()
  }
  message.on('data', onData)
  await once(message, 'pause')
  message.off('data', onData)
  return message
}

/** Waits until a connection is closed, however that comes. */
async function closed(socket: Socket): Promise<void> {
  if (!socket.closed) await new Promise<unknown>((resolve) => socket.once('close', resolve))
}

async function collect(body: NodeJS.ReadableStream | null): Promise<Buffer> {
  const all: Buffer[] = []
  for await (const piece of body ?? []) all.push(piece as Buffer)
  return Buffer.concat(all)
}

describe('a large body of known length', () => {
  it('comes whole and in order, through node-fetch, in pieces that share no memory', async () => {
    answer = (socket) => socket.write(head()) && socket.write(content)
    const { body } = await fetch(base, { agent })
    const pieces: Buffer[] = []
    for await (const piece of body ?? []) pieces.push(piece as Buffer)
    expect(hash(Buffer.concat(pieces))).toBe(digest)
    expect(new Set(pieces.map(({ buffer }) => buffer)).size).toBe(pieces.length)
  })

  it.each([1, 7, 1000, 16 * 1024, 100_000])('comes whole when the first write has %i bytes of it', async (first) => {
    answer = (socket) => {
      socket.write(Buffer.concat([Buffer.from(head()), content.subarray(0, first)]), () =>
        setImmediate(() => socket.write(content.subarray(first))),
      )
    }
    expect(hash(await collect(await response()))).toBe(digest)
  })

  it('comes whole when the head comes byte by byte, after an answer that is not the last', async () => {
    answer = async (socket) => {
      for (const byte of `HTTP/1.1 103 Early Hints\r\nContent-Length: 20000000\r\n\r\n${head()}`) {
        await new Promise<unknown>((resolve) => socket.write(byte, resolve))
      }
      socket.write(content)
    }
    expect(hash(await collect(await response()))).toBe(digest)
  })

  it('comes whole in many small writes', async () => {
    answer = async (socket) => {
      socket.write(head())
      for (let at = 0; at < content.byteLength; at += 50_021) {
        if (!socket.write(content.subarray(at, at + 50_021))) await once(socket, 'drain')
        await nextTurn()
      }
    }
    expect(hash(await collect(await response()))).toBe(digest)
  })

  it('is given to its reader without going through the parser, and its connection is closed after it', async () => {
    answer = (socket) => socket.write(head()) && socket.write(content)
    const message = await inMidBody()
    const { socket } = message
    let parsed = 0
    socket.on('data', ({ byteLength }: Buffer) => {
      parsed += byteLength
    })
    await collect(message)
    expect(parsed).toBe(0)
    expect(message.complete).toBe(true)
    await closed(socket)
    expect(hash(await collect(await response()))).toBe(digest)
    expect(sockets).toHaveLength(2)
  })

  it('is followed by bytes that nobody asked for, which nobody sees', async () => {
    answer = (socket) => {
      socket.write(Buffer.concat([Buffer.from(head()), content, Buffer.from(`${head(5)}extra`), randomBytes(mebibyte)]))
    }
    for (let round = 0; round < 2; round++) expect(hash(await collect(await response()))).toBe(digest)
    expect(sockets).toHaveLength(2)
  })

  it('that is too short fails, with all that had come given out', async () => {
    const short = 30 * mebibyte
    answer = (socket) => socket.write(head()) && socket.end(content.subarray(0, short))
    const message = await response()
    let seen = 0
    message.on('data', ({ byteLength }: Buffer) => {
      seen += byteLength
    })
    const [error] = await once(message, 'error')
    expect(error).toMatchObject({ code: 'ECONNRESET' })
    expect(message.complete).toBe(false)
    expect(seen).toBe(short)
  })

  it('whose connection is reset fails', async () => {
    answer = (socket) => {
      socket.write(head())
      socket.write(content.subarray(0, 20 * mebibyte), () => socket.resetAndDestroy())
    }
    const { body } = await fetch(base, { agent })
    await expect(collect(body)).rejects.toMatchObject({ code: 'ECONNRESET' })
  })

  it('waits for its reader: what has come and is not read stays small, and the rest comes when it is', async () => {
    let written = 0
    answer = async (socket) => {
      socket.write(head(5 * content.byteLength))
      for (let round = 0; round < 5; round++) {
        await new Promise<unknown>((resolve) => socket.write(content, resolve))
        written++
      }
    }
    const message = await inMidBody()
    const idle = async (): Promise<void> => {
      for (let last = -1; last !== message.socket.bytesRead; await new Promise((wake) => setTimeout(wake, 50))) {
        last = message.socket.bytesRead
      }
    }
    await idle()
    expect(message.readableLength).toBeLessThanOrEqual(2 * mebibyte)
    expect(written).toBeLessThan(2)
    const before = message.socket.bytesRead - message.readableLength
    const rest = await collect(message)
    expect(before + rest.byteLength).toBe(5 * content.byteLength + head(5 * content.byteLength).length)
  })

  it('is let go of in its middle, and with it the connection', async () => {
    answer = (socket) => socket.write(head()) && socket.write(content)
    const message = await inMidBody()
    const { socket } = message
    message.destroy()
    expect(socket.destroyed).toBe(true)
    await closed(sockets[0] as Socket)
  })

  it('ends with its request when that is aborted', async () => {
    answer = (socket) => socket.write(head()) && socket.write(content.subarray(0, 20 * mebibyte))
    const controller = new AbortController()
    const { body } = await fetch(base, { agent, signal: controller.signal })
    let seen = 0
    const read = (async () => {
      for await (const piece of body ?? []) {
        seen += (piece as Buffer).byteLength
        if (seen > 4 * mebibyte) controller.abort()
      }
    })()
    await expect(read).rejects.toMatchObject({ name: 'AbortError' })
    await closed(sockets[0] as Socket)
  })
})

describe('what is no large body of known length', () => {
  it('keeps its connection: the answer to HEAD, a body below the limit, and one in chunks', async () => {
    const small = content.subarray(0, 15 * mebibyte)
    answer = (socket, line) => {
      if (line.startsWith('HEAD')) socket.write(head())
      else if (line.startsWith('GET /chunks')) {
        const size = content.byteLength.toString(16)
        socket.write(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${size}\r\n`)
        socket.write(content)
        socket.write('\r\n0\r\n\r\n')
      } else socket.write(head(small.byteLength)) && socket.write(small)
    }
    const [message] = (await once(request(base, { agent, method: 'HEAD' }).end(), 'response')) as [IncomingMessage]
    await collect(message)
    expect(hash(await collect(await response()))).toBe(hash(small))
    const { body } = await fetch(`${base}chunks`, { agent })
    expect(hash(await collect(body))).toBe(digest)
    expect(hash(await collect(await response()))).toBe(hash(small))
    expect(sockets).toHaveLength(1)
  })

  it('is read by its length where the connection has brought a large body before', async () => {
    const small = content.subarray(0, 15 * mebibyte)
    answer = (socket) => socket.write(head(small.byteLength)) && socket.write(small)
    await collect(await response())
    answer = (socket) => socket.write(head()) && socket.write(content)
    expect(hash(await collect(await response()))).toBe(digest)
    expect(sockets).toHaveLength(1)
  })
})
