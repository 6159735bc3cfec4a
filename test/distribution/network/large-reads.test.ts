import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { Agent, createServer, get, type IncomingMessage } from 'node:http'
import { type AddressInfo, createConnection } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import fetch from 'node-fetch'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { withLargeReads } from '../../../src/distribution/network/large-reads.ts'

const content = randomBytes(12_000_000)
const hash = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
const digest = hash(content)

/** `/plain` has a length, `/chunked` has none and closes; `/small` is a few bytes. */
const server = createServer((request, response) => {
  if (request.url === '/small') response.end('small')
  else if (request.url === '/plain') response.setHeader('content-length', content.length).end(content)
  else {
    response.setHeader('connection', 'close')
    for (let at = 0; at < content.length; at += 99_991) response.write(content.subarray(at, at + 99_991))
    response.end()
  }
})
const agent = withLargeReads(new Agent({ keepAlive: true, maxSockets: 1 }), createConnection)
let base = ''

beforeAll(async () => {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})

afterAll(async () => {
  agent.destroy()
  server.close()
  await once(server, 'close')
})

async function response(path: string): Promise<IncomingMessage> {
  const [answer] = (await once(get(`${base}${path}`, { agent }), 'response')) as [IncomingMessage]
  return answer
}

describe('a connection that reads in large pieces', () => {
  it.each(['/plain', '/chunked'])('brings every byte of %s in order, to whoever keeps all pieces', async (path) => {
    for (let round = 0; round < 3; round++) {
      const { body } = await fetch(`${base}${path}`, { agent })
      const pieces: Buffer[] = []
      for await (const piece of body ?? []) pieces.push(piece as Buffer)
      expect(hash(Buffer.concat(pieces))).toBe(digest)
    }
  })

  it('brings every byte to a reader that pauses after each piece', async () => {
    const answer = await response('/plain')
    const pieces: Buffer[] = []
    let pauses = 0
    answer.on('data', (piece: Buffer) => {
      pieces.push(piece)
      answer.pause()
      pauses++
      void (async () => {
        for (let turn = 0; turn < 5; turn++) await nextTurn()
        answer.resume()
      })()
    })
    await once(answer, 'end')
    expect(hash(Buffer.concat(pieces))).toBe(digest)
    expect(pauses).toBeGreaterThan(2)
  })

  it('reads larger pieces than Node does by itself, once it has brought much', async () => {
    const answer = await response('/plain')
    let largest = 0
    for await (const piece of answer) {
      largest = Math.max(largest, (piece as Buffer).length)
      await nextTurn()
    }
    expect(largest).toBeGreaterThan(64 * 1024)
  })

  it('is used again for the next request', async () => {
    const sockets = new Set<unknown>()
    for (const path of ['/small', '/plain', '/small']) {
      const answer = await response(path)
      sockets.add(answer.socket)
      for await (const _ of answer);
      await nextTurn()
    }
    expect(sockets.size).toBe(1)
  })

  it('says why it was not made', async () => {
    const request = get('http://127.0.0.1:1/', { agent })
    await expect(once(request, 'response')).rejects.toMatchObject({ code: 'ECONNREFUSED' })
  })
})
