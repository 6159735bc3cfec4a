import type { IncomingMessage, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { anonymous, openRepository, type Repository } from '../../src/distribution/index.ts'
import { LimitError, ProtocolError } from '../../src/errors.ts'
import { digestOf } from '../../src/image/digest.ts'
import { randomLayer } from './support/images.ts'
import { type ScriptedServer, startServer } from './support/scripted-server.ts'

const layer = randomLayer(100_000)

interface Upload {
  received: Buffer
  /** Answers a PATCH itself when it returns true. */
  patch?(request: IncomingMessage, response: ServerResponse, count: number): boolean
  range?: () => string
  minLength?: number
}

/** A registry with one upload session, which takes chunks in order. */
async function against(
  upload: Upload,
  use: (repository: Repository, server: ScriptedServer) => Promise<void>,
): Promise<void> {
  const range = (): string => upload.range?.() ?? `0-${Math.max(0, upload.received.byteLength - 1)}`
  await using server = await startServer((request, response, count) => {
    const { method, headers } = request
    const location = `/v2/app/blobs/uploads/1?state=${upload.received.byteLength}`
    if (method === 'HEAD') return void response.writeHead(404).end()
    if (method === 'POST') {
      const least = upload.minLength === undefined ? {} : { 'oci-chunk-min-length': String(upload.minLength) }
      return void response.writeHead(202, { location, ...least }).end()
    }
    if (method === 'GET') return void response.writeHead(204, { location, range: range() }).end()
    if (method === 'DELETE') return void response.writeHead(204).end()
    if (method === 'PATCH' && upload.patch?.(request, response, count) === true) return
    request.on('data', (chunk: Buffer) => {
      upload.received = Buffer.concat([upload.received, chunk])
    })
    request.once('end', () => {
      if (method === 'PUT')
        return void response.writeHead(201, { 'docker-content-digest': digestOf(upload.received) }).end()
      const expected = headers['content-range']?.split('-')[1]
      expect(Number(expected)).toBe(upload.received.byteLength - 1)
      const next = `/v2/app/blobs/uploads/1?state=${upload.received.byteLength}`
      response.writeHead(202, { location: next, range: range() }).end()
    })
  })
  const retry = { minDelay: 1, maxDelay: 2 }
  const options = { credentials: anonymous, retry, upload: { method: 'patch', chunkSize: 30_000 } } as const
  await use(openRepository(`${server.host}/app`, options), server)
}

const stream = (): Readable => Readable.from([layer.bytes.subarray(0, 50_000), layer.bytes.subarray(50_000)])
const ranges = ({ seen }: ScriptedServer): unknown[] =>
  seen.filter(({ method }) => method === 'PATCH').map(({ headers }) => headers['content-range'])

describe('an upload in chunks', () => {
  it('goes each time where the last answer says, and ends with the digest', async () => {
    const upload = { received: Buffer.alloc(0) }
    await against(upload, async (repository, server) => {
      await repository.push(layer.descriptor, stream())
      expect(ranges(server)).toEqual(['0-29999', '30000-59999', '60000-89999', '90000-99999'])
      expect(server.seen.at(-1)?.url).toMatch(/state=100000&digest=/)
      expect(server.seen.at(-1)?.headers['content-length']).toBe('0')
    })
    expect(upload.received.equals(layer.bytes)).toBe(true)
  })

  it('has chunks as large as the registry wants them', async () => {
    await against({ received: Buffer.alloc(0), minLength: 70_000 }, async (repository, server) => {
      await repository.push(layer.descriptor, stream())
      expect(ranges(server)).toEqual(['0-69999', '70000-99999'])
    })
  })

  it('is refused where chunks would have to be larger than memory allows', async () => {
    await against({ received: Buffer.alloc(0), minLength: 2 ** 40 }, async (repository, server) => {
      await expect(repository.push(layer.descriptor, stream())).rejects.toThrow(LimitError)
      expect(server.seen.at(-1)?.method).toBe('DELETE')
    })
  })

  it('goes on where the registry is after a drop in mid-chunk', async () => {
    const upload: Upload = {
      received: Buffer.alloc(0),
      patch(request, response, count) {
        if (count !== 2) return false
        let taken = 0
        request.on('data', (chunk: Buffer) => {
          const part = chunk.subarray(0, 7_000 - taken)
          taken += part.byteLength
          upload.received = Buffer.concat([upload.received, part])
          if (taken === 7_000) response.socket?.destroy()
        })
        return true
      },
    }
    await against(upload, async (repository, server) => {
      await repository.push(layer.descriptor, stream())
      expect(ranges(server)).toEqual(['0-29999', '30000-59999', '37000-59999', '60000-89999', '90000-99999'])
    })
    expect(upload.received.equals(layer.bytes)).toBe(true)
  })

  it('goes on when the answer to a chunk was lost, without sending it again', async () => {
    const upload: Upload = {
      received: Buffer.alloc(0),
      patch(request, response, count) {
        if (count !== 1) return false
        request.on('data', (chunk: Buffer) => {
          upload.received = Buffer.concat([upload.received, chunk])
        })
        request.once('end', () => response.socket?.destroy())
        return true
      },
    }
    await against(upload, async (repository, server) => {
      await repository.push(layer.descriptor, stream())
      expect(ranges(server)).toEqual(['0-29999', '30000-59999', '60000-89999', '90000-99999'])
    })
  })

  it('asks where the registry is when that refuses a chunk with 416', async () => {
    const upload: Upload = {
      received: Buffer.alloc(0),
      patch(request, response, count) {
        request.resume()
        if (count === 2) response.writeHead(416).end()
        return count === 2
      },
    }
    await against(upload, async (repository, server) => {
      await repository.push(layer.descriptor, stream())
      expect(ranges(server)).toEqual(['0-29999', '30000-59999', '30000-59999', '60000-89999', '90000-99999'])
    })
  })

  it('ends, and is cancelled, when the registry refuses again and again', async () => {
    const upload: Upload = {
      received: Buffer.alloc(0),
      patch(request, response) {
        request.resume()
        response.writeHead(416).end()
        return true
      },
    }
    await against(upload, async (repository, server) => {
      await expect(repository.push(layer.descriptor, stream())).rejects.toThrow(ProtocolError)
      expect(ranges(server)).toHaveLength(5)
      expect(server.seen.at(-1)?.method).toBe('DELETE')
    })
  })

  it('is cancelled where the last answer says: other locations may be out of date', async () => {
    const upload: Upload = {
      received: Buffer.alloc(0),
      patch(request, response, count) {
        if (count < 3) return false
        request.resume()
        response.writeHead(400).end()
        return true
      },
    }
    await against(upload, async (repository, server) => {
      await expect(repository.push(layer.descriptor, stream())).rejects.toThrow(/400/)
      expect(server.seen.at(-1)).toMatchObject({ method: 'DELETE', url: '/v2/app/blobs/uploads/1?state=60000' })
    })
  })

  it('ends when the registry has bytes that we no longer, or not yet, have', async () => {
    for (const wrong of ['0-5', '0-99999999', 'bytes 3-4', '0-18446744073709551615']) {
      const upload: Upload = {
        received: Buffer.alloc(0),
        range: () => wrong,
        patch(request, response, count) {
          request.resume()
          if (count === 2) response.writeHead(416).end()
          return count === 2
        },
      }
      await against(upload, async (repository) => {
        await expect(repository.push(layer.descriptor, stream())).rejects.toThrow(/lost its place/)
      })
    }
  })
})
