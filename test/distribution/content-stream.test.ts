import { describe, expect, it } from 'vitest'
import { readAll } from '../../src/content/verify.ts'
import { DigestMismatchError, InvalidArgumentError, NetworkError, SizeMismatchError } from '../../src/errors.ts'
import { randomLayer } from './support/images.ts'
import { against, contentRange, drop, rangeStart, serve } from './support/scripted-server.ts'

const mebibyte = 2 ** 20

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

  it('is completed by a range also when it drops far into a body so large that it goes past the parser of HTTP', async () => {
    const large = randomLayer(40 * mebibyte)
    await against(
      (request, response, count) =>
        count === 1 ? drop(request, response, large.bytes, 30 * mebibyte) : serve(request, response, large.bytes),
      async (repository, server) => {
        const bytes = await readAll(repository, large.descriptor, large.bytes.byteLength)
        expect(Buffer.compare(bytes, large.bytes)).toBe(0)
        expect(server.seen.map(({ headers }) => headers.range)).toEqual([undefined, `bytes=${30 * mebibyte}-`])
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
