import type { Socket } from 'node:net'
import { describe, expect, it } from 'vitest'
import { readAll } from '../../src/content/verify.ts'
import { anonymous, openRepository, type RegistryClientOptions, type Repository } from '../../src/distribution/index.ts'
import {
  DigestMismatchError,
  InvalidArgumentError,
  LimitError,
  NetworkError,
  NotFoundError,
  RegistryError,
  SizeMismatchError,
} from '../../src/errors.ts'
import { image, randomLayer } from './support/images.ts'
import {
  contentRange,
  drop,
  type Handler,
  rangeStart,
  type ScriptedServer,
  serve,
  startServer,
} from './support/scripted-server.ts'

const mebibyte = 2 ** 20
const fast = { credentials: anonymous, retry: { minDelay: 1, maxDelay: 2 } }

async function against(
  handler: Handler,
  use: (repository: Repository, server: ScriptedServer) => Promise<void>,
  options: RegistryClientOptions = {},
): Promise<void> {
  await using server = await startServer(handler)
  await use(openRepository(`${server.host}/app`, { ...fast, ...options }), server)
}

describe('a blob whose connection drops', () => {
  const layer = randomLayer(4 * mebibyte)

  it('is completed by ranges that begin where the last byte ended', async () => {
    await against(
      (request, response, count) =>
        count <= 3 ? drop(request, response, layer.bytes, mebibyte) : serve(request, response, layer.bytes),
      async (repository, server) => {
        const bytes = await readAll(repository, layer.descriptor, layer.bytes.byteLength)
        expect(Buffer.compare(bytes, layer.bytes)).toBe(0)
        expect(server.seen.map(({ headers }) => headers.range)).toEqual([
          undefined,
          `bytes=${mebibyte}-`,
          `bytes=${2 * mebibyte}-`,
          `bytes=${3 * mebibyte}-`,
        ])
      },
    )
  })

  it('is completed however often it drops, as long as there is progress', async () => {
    await against(
      (request, response) => drop(request, response, layer.bytes, mebibyte / 2),
      async (repository, server) => {
        const bytes = await readAll(repository, layer.descriptor, layer.bytes.byteLength)
        expect(Buffer.compare(bytes, layer.bytes)).toBe(0)
        expect(server.seen).toHaveLength(8)
      },
    )
  })

  it('fails when there is no more progress', async () => {
    await against(
      (request, response) => drop(request, response, layer.bytes, rangeStart(request) === 0 ? mebibyte : 0),
      async (repository, server) => {
        await expect(readAll(repository, layer.descriptor, layer.bytes.byteLength)).rejects.toThrow(NetworkError)
        expect(server.seen).toHaveLength(5)
      },
    )
  })

  it('skips what it had when the server sends everything again', async () => {
    await against(
      (request, response, count) => {
        if (count === 1) return drop(request, response, layer.bytes, mebibyte + 1)
        response.writeHead(200, { 'content-length': layer.bytes.byteLength }).end(layer.bytes)
      },
      async (repository, server) => {
        const bytes = await readAll(repository, layer.descriptor, layer.bytes.byteLength)
        expect(Buffer.compare(bytes, layer.bytes)).toBe(0)
        expect(server.seen).toHaveLength(2)
      },
    )
  })

  it('is not read over and over from a server that sends everything again and drops each time', async () => {
    await against(
      (_request, response, count) => {
        response.writeHead(200, { 'content-length': layer.bytes.byteLength })
        response.write(layer.bytes.subarray(0, Math.min(count * (mebibyte / 2), 4 * mebibyte - 1)), () =>
          response.socket?.end(),
        )
      },
      async (repository, server) => {
        await expect(readAll(repository, layer.descriptor, layer.bytes.byteLength)).rejects.toThrow(NetworkError)
        expect(server.seen.length).toBeLessThanOrEqual(6)
      },
    )
  })

  it('accepts no range with another start: it asks for everything instead', async () => {
    await against(
      (request, response, count) => {
        if (count === 1) return drop(request, response, layer.bytes, mebibyte)
        if (request.headers.range === undefined) return serve(request, response, layer.bytes)
        const start = rangeStart(request) + 1
        response.writeHead(206, { 'content-range': contentRange(start, layer.bytes) }).end(layer.bytes.subarray(start))
      },
      async (repository, server) => {
        const bytes = await readAll(repository, layer.descriptor, layer.bytes.byteLength)
        expect(Buffer.compare(bytes, layer.bytes)).toBe(0)
        expect(server.seen).toHaveLength(3)
      },
    )
  })

  it('resumes from a peer that falls silent', async () => {
    await against(
      (request, response, count) => {
        if (count > 1) return serve(request, response, layer.bytes)
        response.writeHead(200, { 'content-length': layer.bytes.byteLength })
        response.write(layer.bytes.subarray(0, mebibyte))
      },
      async (repository, server) => {
        const bytes = await readAll(repository, layer.descriptor, layer.bytes.byteLength)
        expect(Buffer.compare(bytes, layer.bytes)).toBe(0)
        expect(server.seen).toHaveLength(2)
      },
      { timeouts: { stall: 200 } },
    )
  })

  it('does not take a slow reader for a silent peer', async () => {
    await against(
      (request, response) => serve(request, response, layer.bytes),
      async (repository, server) => {
        const stream = await repository.fetch(layer.descriptor)
        const started = performance.now()
        const pause = new Promise((resolve) => setTimeout(resolve, 250))
        await pause
        expect(performance.now() - started).toBeGreaterThan(200)
        const bytes = Buffer.concat(await stream.toArray())
        expect(Buffer.compare(bytes, layer.bytes)).toBe(0)
        expect(server.seen).toHaveLength(1)
      },
      { timeouts: { stall: 100 } },
    )
  })
})

describe('content that is not what was announced', () => {
  const layer = randomLayer(1000)
  const other = randomLayer(1000)

  it('of another digest is refused', async () => {
    await against(
      (request, response) => serve(request, response, other.bytes),
      async (repository) => {
        await expect(readAll(repository, layer.descriptor, 1000)).rejects.toThrow(DigestMismatchError)
      },
    )
  })

  it('of another length is refused by its Content-Length, before it is read', async () => {
    for (const length of [999, 1001]) {
      await against(
        (request, response) => serve(request, response, Buffer.alloc(length)),
        async (repository, server) => {
          const error = await repository.fetch(layer.descriptor).catch((e: unknown) => e)
          expect(error).toBeInstanceOf(SizeMismatchError)
          expect(error).toMatchObject({ expected: 1000, actual: length })
          expect(server.seen).toHaveLength(1)
        },
      )
    }
  })

  it('that ends early, without a Content-Length, fails with the size it had', async () => {
    await against(
      (request, response) => {
        if (rangeStart(request) > 0) response.writeHead(416).end()
        else response.writeHead(200).end(layer.bytes.subarray(0, 600))
      },
      async (repository) => {
        const read = readAll(repository, layer.descriptor, 1000)
        await expect(read).rejects.toMatchObject({ code: 'ERR_OCI_SIZE_MISMATCH', expected: 1000, actual: 600 })
      },
    )
  })

  it('that goes on without end is cut off one byte after the announced size', async () => {
    await against(
      (_request, response) => {
        response.writeHead(200)
        const more = (): void => {
          if (!response.destroyed) response.write(Buffer.alloc(65_536), () => setImmediate(more))
        }
        more()
      },
      async (repository) => {
        await expect(readAll(repository, layer.descriptor, 1000)).rejects.toThrow(SizeMismatchError)
      },
    )
  })

  it('has a descriptor with a size and a digest that make sense, or no request is sent', async () => {
    await against(
      (_request, response) => response.end(),
      async (repository, server) => {
        for (const size of [-1, 0.5, 2 ** 62, Number.NaN]) {
          await expect(repository.fetch({ ...layer.descriptor, size })).rejects.toThrow(InvalidArgumentError)
        }
        const digest = 'sha256:../../../etc/passwd'
        await expect(repository.fetch({ ...layer.descriptor, digest })).rejects.toMatchObject({
          code: 'ERR_OCI_INVALID_DIGEST',
        })
        await expect(repository.resolve('../../other/manifests/1')).rejects.toThrow(InvalidArgumentError)
        expect(server.seen).toHaveLength(0)
      },
    )
  })
})

describe('a manifest', () => {
  const { manifest } = image(randomLayer(10))
  const { digest, mediaType } = manifest.descriptor

  it('is resolved by GET, and fetched only once, when HEAD does not tell its digest', async () => {
    await against(
      (request, response) => {
        response.setHeader('content-type', mediaType)
        serve(request, response, manifest.bytes)
      },
      async (repository, server) => {
        expect(await repository.resolve('1')).toEqual(manifest.descriptor)
        expect(Buffer.from(await readAll(repository, manifest.descriptor, 10_000))).toEqual(Buffer.from(manifest.bytes))
        expect(server.seen.map(({ method }) => method)).toEqual(['HEAD', 'GET'])
      },
    )
  })

  it('is resolved by GET when HEAD is refused, and typed by its content when the type is vague', async () => {
    await against(
      (request, response) => {
        if (request.method === 'HEAD') response.writeHead(405).end()
        else response.writeHead(200, { 'content-type': 'application/json; charset=utf-8' }).end(manifest.bytes)
      },
      async (repository) => {
        expect(await repository.resolve('1')).toEqual(manifest.descriptor)
      },
    )
  })

  it('is refused when its digest is another than the registry says', async () => {
    const wrong = `sha256:${'0'.repeat(64)}`
    await against(
      (request, response) => {
        response.setHeader('docker-content-digest', wrong)
        if (request.method === 'HEAD') response.writeHead(405).end()
        else response.writeHead(200, { 'content-type': mediaType }).end(manifest.bytes)
      },
      async (repository) => {
        await expect(repository.resolve('1')).rejects.toMatchObject({ expected: wrong, actual: digest })
      },
    )
  })

  it('is refused when a digest was asked for and another one is answered', async () => {
    await against(
      (_request, response) => {
        response
          .writeHead(200, { 'content-type': mediaType, 'content-length': 5, 'docker-content-digest': digest })
          .end()
      },
      async (repository) => {
        await expect(repository.resolve(`sha256:${'1'.repeat(64)}`)).rejects.toThrow(DigestMismatchError)
      },
    )
  })

  it('of 1 GB is refused by what HEAD says', async () => {
    await against(
      (_request, response) => {
        const headers = { 'content-type': mediaType, 'content-length': 1e9, 'docker-content-digest': digest }
        response.writeHead(200, headers).end()
      },
      async (repository, server) => {
        await expect(repository.resolve('1')).rejects.toThrow(LimitError)
        await expect(repository.fetch({ ...manifest.descriptor, size: 1e9 })).rejects.toThrow(LimitError)
        expect(server.seen).toHaveLength(1)
      },
    )
  })

  it('of 1 GB is not read further than the limit, whatever was announced', async () => {
    let sent = 0
    await against(
      (request, response) => {
        if (request.method === 'HEAD') return void response.writeHead(405).end()
        response.writeHead(200, { 'content-type': mediaType })
        const more = (): void => {
          sent += mebibyte
          if (!response.destroyed && sent < 1e9) response.write(Buffer.alloc(mebibyte, 32), more)
        }
        more()
      },
      async (repository) => {
        await expect(repository.resolve('1')).rejects.toMatchObject({ code: 'ERR_OCI_LIMIT', limit: 4 * mebibyte })
        expect(sent).toBeLessThan(64 * mebibyte)
      },
    )
  })

  it('that is larger than its HEAD said fails', async () => {
    await against(
      (request, response) => {
        const length = request.method === 'HEAD' ? manifest.bytes.byteLength : 1e8
        const headers = { 'content-type': mediaType, 'content-length': length, 'docker-content-digest': digest }
        response.writeHead(200, headers).end()
      },
      async (repository) => {
        const descriptor = await repository.resolve('1')
        await expect(readAll(repository, descriptor, 4 * mebibyte)).rejects.toThrow(SizeMismatchError)
      },
    )
  })
})

describe('a registry that does not answer as hoped', () => {
  const layer = randomLayer(1000)

  it('is asked again after the time that Retry-After gives', async () => {
    await against(
      (request, response, count) =>
        count === 1 ? response.writeHead(429, { 'retry-after': '1' }).end() : serve(request, response, layer.bytes),
      async (repository, server) => {
        const started = performance.now()
        await readAll(repository, layer.descriptor, 1000)
        expect(performance.now() - started).toBeGreaterThan(990)
        expect(server.seen).toHaveLength(2)
      },
    )
  })

  it('is not waited for when Retry-After asks for more than the limit', async () => {
    await against(
      (_request, response) =>
        response.writeHead(429, { 'retry-after': '3600' }).end('{"errors":[{"code":"TOOMANYREQUESTS"}]}'),
      async (repository, server) => {
        await expect(repository.fetch(layer.descriptor)).rejects.toMatchObject({
          status: 429,
          errors: [{ code: 'TOOMANYREQUESTS', message: '' }],
          hint: 'The registry asks to wait 3600 seconds.',
        })
        expect(server.seen).toHaveLength(1)
      },
    )
  })

  it('is asked a bounded number of times while it is unavailable', async () => {
    await against(
      (_request, response) => response.writeHead(503).end('<html>'),
      async (repository, server) => {
        await expect(repository.fetch(layer.descriptor)).rejects.toThrow(RegistryError)
        expect(server.seen).toHaveLength(5)
      },
    )
  })

  it('is asked again when it hangs up without an answer', async () => {
    await against(
      (request, response, count) => (count <= 2 ? request.socket.destroy() : serve(request, response, layer.bytes)),
      async (repository, server) => {
        await readAll(repository, layer.descriptor, 1000)
        expect(server.seen).toHaveLength(3)
      },
    )
  })

  it('is given up when it never answers', async () => {
    await against(
      () => {},
      async (repository) => {
        await expect(repository.fetch(layer.descriptor)).rejects.toThrow(/did not finish within 50 ms/)
      },
      { timeouts: { headers: 50 }, retry: { attempts: 1 } },
    )
  })

  it('is reported at once when nothing listens there', async () => {
    const server = await startServer(() => {})
    await server[Symbol.asyncDispose]()
    const repository = openRepository(`${server.host}/app`, { credentials: anonymous })
    const started = performance.now()
    await expect(repository.resolve('1')).rejects.toThrow(/ECONNREFUSED/)
    expect(performance.now() - started).toBeLessThan(1000)
  })

  it('has its long and dirty error messages cut and escaped', async () => {
    const message = `\u001b[31m${'x'.repeat(100_000)}`
    await against(
      (_request, response) => response.writeHead(403).end(JSON.stringify({ errors: [{ code: 'DENIED', message }] })),
      async (repository) => {
        const error = await repository.fetch(layer.descriptor).catch((e: unknown) => e)
        expect(error).toBeInstanceOf(RegistryError)
        expect(String(error)).not.toContain('\u001b')
        expect(String(error).length).toBeLessThan(1000)
      },
    )
  })
})

/** Settles when a connection is over, in whatever way. */
function closing(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.once('close', () => resolve()))
}

describe('aborting', () => {
  const layer = randomLayer(4 * mebibyte)

  it('rejects with the reason while the answer is awaited, and closes the connection', async () => {
    const reason = new Error('enough')
    const controller = new AbortController()
    let closed: Promise<unknown> | undefined
    await against(
      (request) => {
        closed = closing(request.socket)
        controller.abort(reason)
      },
      async (repository) => {
        await expect(repository.resolve('1', { signal: controller.signal })).rejects.toBe(reason)
        await closed
      },
    )
  })

  it('ends a stream with the reason, and closes the connection', async () => {
    const reason = new Error('enough')
    const controller = new AbortController()
    let closed: Promise<unknown> | undefined
    await against(
      (request, response) => {
        closed = closing(request.socket)
        drop(request, response, layer.bytes, mebibyte)
      },
      async (repository) => {
        const stream = await repository.fetch(layer.descriptor, { signal: controller.signal })
        stream.once('data', () => controller.abort(reason))
        await expect(stream.toArray()).rejects.toBe(reason)
        await closed
      },
    )
  })

  it('the signal of the client ends its waits between attempts', async () => {
    const controller = new AbortController()
    const reason = new NotFoundError('anything')
    await against(
      (_request, response) => {
        response.writeHead(503, { 'retry-after': '50' }).end()
        response.once('close', () => controller.abort(reason))
      },
      async (repository) => {
        await expect(repository.fetch(layer.descriptor)).rejects.toBe(reason)
      },
      { signal: controller.signal },
    )
  })
})
