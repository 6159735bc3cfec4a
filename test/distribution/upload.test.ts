import { Readable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { anonymous, openRepository, type RegistryClientOptions, type Repository } from '../../src/distribution/index.ts'
import { DigestMismatchError, ProtocolError, RegistryError } from '../../src/errors.ts'
import { content, randomLayer } from './support/images.ts'
import { type Handler, type ScriptedServer, startServer } from './support/scripted-server.ts'

const layer = randomLayer(100_000)

/** A server that has nothing and takes every upload, unless `special` has dealt with the request. */
async function against(
  special: (...args: Parameters<Handler>) => boolean | undefined,
  use: (repository: Repository, server: ScriptedServer) => Promise<void>,
  options: RegistryClientOptions = {},
): Promise<void> {
  await using server = await startServer((request, response, count) => {
    if (special(request, response, count) === true) return
    if (request.method === 'HEAD') return void response.writeHead(404).end()
    if (request.method === 'POST') {
      return void response.writeHead(202, { location: '/v2/app/blobs/uploads/1?_state=secret%2Fstate' }).end()
    }
    request.resume()
    request.once('end', () => response.writeHead(request.method === 'DELETE' ? 204 : 201).end())
  })
  const retry = { minDelay: 1, maxDelay: 2 }
  await use(openRepository(`${server.host}/app`, { credentials: anonymous, retry, ...options }), server)
}

const methods = (server: ScriptedServer): string[] => server.seen.map(({ method }) => method)

describe('pushing a blob', () => {
  it('sends all of it in one PUT with its length, to the location as it was given plus the digest', async () => {
    await against(
      () => undefined,
      async (repository, server) => {
        await repository.push(layer.descriptor, Readable.from([layer.bytes]))
        expect(methods(server)).toEqual(['HEAD', 'POST', 'PUT'])
        expect(server.seen[1]?.headers['content-length']).toBe('0')
        expect(server.seen[2]).toMatchObject({
          url: `/v2/app/blobs/uploads/1?_state=secret%2Fstate&digest=${encodeURIComponent(layer.descriptor.digest)}`,
          headers: { 'content-length': '100000', 'content-type': 'application/octet-stream' },
        })
        expect(server.seen[2]?.headers['transfer-encoding']).toBeUndefined()
      },
    )
  })

  it('does not ask again whether a blob is there when that has just been asked', async () => {
    await against(
      () => undefined,
      async (repository, server) => {
        expect(await repository.exists(layer.descriptor)).toBe(false)
        await repository.push(layer.descriptor, layer.bytes)
        expect(methods(server)).toEqual(['HEAD', 'POST', 'PUT'])
        await repository.push(layer.descriptor, layer.bytes)
        expect(methods(server).filter((method) => method === 'HEAD')).toHaveLength(2)
      },
    )
  })

  it('accepts a location without a query', async () => {
    await against(
      (request, response) => {
        if (request.method !== 'POST') return undefined
        response.writeHead(202, { location: `http://${request.headers.host}/elsewhere/1` }).end()
        return true
      },
      async (repository, server) => {
        await repository.push(layer.descriptor, layer.bytes)
        expect(server.seen[2]?.url).toBe(`/elsewhere/1?digest=${encodeURIComponent(layer.descriptor.digest)}`)
      },
    )
  })

  it('cancels the upload and gives the reason when it is aborted', async () => {
    const controller = new AbortController()
    const reason = new Error('enough')
    const source = new Readable({
      read() {
        this.push(layer.bytes.subarray(0, 10))
      },
    })
    await against(
      (request) => {
        if (request.method === 'PUT') request.once('data', () => controller.abort(reason))
        return undefined
      },
      async (repository, server) => {
        const size = 2 ** 40
        const push = repository.push({ ...layer.descriptor, size }, source, { signal: controller.signal })
        await expect(push).rejects.toBe(reason)
        expect(methods(server)).toEqual(['HEAD', 'POST', 'PUT', 'DELETE'])
        expect(server.seen.at(-1)?.url).toBe('/v2/app/blobs/uploads/1?_state=secret%2Fstate')
        expect(source.destroyed).toBe(true)
      },
    )
  })

  it('cancels the upload and gives the error of its source when that fails', async () => {
    const reason = new Error('disk on fire')
    await against(
      () => undefined,
      async (repository, server) => {
        const source = Readable.from(
          (async function* () {
            yield layer.bytes.subarray(0, 1000)
            throw reason
          })(),
        )
        await expect(repository.push(layer.descriptor, source)).rejects.toBe(reason)
        expect(methods(server).at(-1)).toBe('DELETE')
      },
    )
  })

  it('does not send a stream twice', async () => {
    await against(
      (request, response) => {
        if (request.method !== 'PUT') return undefined
        request.resume()
        request.once('end', () => response.writeHead(503).end())
        return true
      },
      async (repository, server) => {
        await expect(repository.push(layer.descriptor, Readable.from([layer.bytes]))).rejects.toMatchObject({
          status: 503,
        })
        expect(methods(server).filter((method) => method === 'PUT')).toHaveLength(1)
      },
    )
  })

  it('sends bytes again, in a new upload', async () => {
    await against(
      (request, response, count) => {
        if (request.method !== 'PUT' || count > 1) return undefined
        request.socket.destroy()
        response.destroy()
        return true
      },
      async (repository, server) => {
        await repository.push(layer.descriptor, layer.bytes)
        expect(methods(server)).toEqual(['HEAD', 'POST', 'PUT', 'DELETE', 'POST', 'PUT'])
      },
    )
  })

  it('tells the answer of a registry that refuses in the middle', async () => {
    const big = randomLayer(8 * 2 ** 20)
    await against(
      (request, response) => {
        if (request.method !== 'PUT') return undefined
        request.once('data', () => {
          response.writeHead(413).end('{"errors":[{"code":"SIZE_INVALID","message":"too much"}]}')
          request.resume()
        })
        return true
      },
      async (repository) => {
        const error = await repository.push(big.descriptor, Readable.from([big.bytes])).catch((e: unknown) => e)
        expect(error).toBeInstanceOf(RegistryError)
        expect(error).toMatchObject({ status: 413, errors: [{ code: 'SIZE_INVALID', message: 'too much' }] })
      },
    )
  })

  it('gives up when the registry takes nothing more', async () => {
    const source = new Readable({
      read() {
        this.push(Buffer.alloc(65_536))
      },
    })
    await against(
      (request) => {
        if (request.method !== 'PUT') return undefined
        request.pause()
        return true
      },
      async (repository, server) => {
        await expect(repository.push({ ...layer.descriptor, size: 2 ** 40 }, source)).rejects.toThrow(/upload/)
        expect(methods(server).at(-1)).toBe('DELETE')
      },
      { timeouts: { stall: 100 } },
    )
  })

  it('fails when the registry says that it has stored something else', async () => {
    await against(
      (request, response) => {
        if (request.method !== 'PUT') return undefined
        request.resume()
        response.setHeader('docker-content-digest', `sha256:${'0'.repeat(64)}`)
        return undefined
      },
      async (repository) => {
        await expect(repository.push(layer.descriptor, layer.bytes)).rejects.toThrow(DigestMismatchError)
      },
    )
  })

  it('uses no location that is no http URL, or that carries a password', async () => {
    for (const location of ['ftp://127.0.0.1/x', 'http://user:pass@127.0.0.1/x', 'http://[', undefined]) {
      await against(
        (request, response) => {
          if (request.method !== 'POST') return undefined
          response.writeHead(202, location === undefined ? {} : { location }).end()
          return true
        },
        async (repository, server) => {
          const error = await repository.push(layer.descriptor, layer.bytes).catch((e: unknown) => e)
          expect(error).toBeInstanceOf(ProtocolError)
          expect(String(error)).not.toContain('pass@')
          expect(methods(server)).toEqual(['HEAD', 'POST'])
        },
      )
    }
  })

  it('keeps the state of the upload out of errors', async () => {
    await against(
      (request, response) => {
        if (request.method !== 'PUT') return undefined
        request.socket.destroy()
        response.destroy()
        return true
      },
      async (repository) => {
        const error = await repository.push(layer.descriptor, Readable.from([layer.bytes])).catch((e: unknown) => e)
        for (let e = error; e instanceof Error; e = e.cause) expect(`${e.stack}`).not.toContain('secret')
        expect(String(error)).toContain('_state=…')
      },
    )
  })
})

describe('pushing a manifest', () => {
  it('sends its bytes and its type as they are, and tagging costs one more request', async () => {
    const manifest = content('application/vnd.oci.image.manifest.v1+json', '{ "schemaVersion":2 }')
    await against(
      () => undefined,
      async (repository, server) => {
        await repository.push(manifest.descriptor, manifest.bytes)
        await repository.tag(manifest.descriptor, 'v1')
        expect(server.seen.map(({ method, url }) => `${method} ${url}`)).toEqual([
          `PUT /v2/app/manifests/${manifest.descriptor.digest}`,
          'PUT /v2/app/manifests/v1',
        ])
        for (const { headers } of server.seen) {
          expect(headers['content-type']).toBe(manifest.descriptor.mediaType)
          expect(headers['content-length']).toBe(String(manifest.bytes.byteLength))
        }
      },
    )
  })

  it('gets its tags with the same request where the registry can do that, and the others one by one', async () => {
    await against(
      (request, response) => {
        if (request.method !== 'PUT') return undefined
        request.resume()
        response.writeHead(201, request.url?.includes('?tag=') ? { 'oci-tag': 'a, b' } : {}).end()
        return true
      },
      async (repository, server) => {
        const index = content('application/vnd.oci.image.index.v1+json', '{"schemaVersion":2,"manifests":[]}')
        await repository.push(index.descriptor, index.bytes, { tags: ['a', 'b', 'c'] })
        expect(server.seen.map(({ url }) => url)).toEqual([
          `/v2/app/manifests/${index.descriptor.digest}?tag=a&tag=b&tag=c`,
          '/v2/app/manifests/c',
        ])
        await expect(repository.push(index.descriptor, index.bytes, { tags: ['../x'] })).rejects.toThrow(/is not a tag/)
      },
    )
  })

  it('is repeated while the registry is unavailable', async () => {
    const manifest = content('application/vnd.oci.image.manifest.v1+json', '{ "schemaVersion":2 }')
    await against(
      (request, response, count) => {
        if (count > 2) return undefined
        request.resume()
        response.writeHead(502).end()
        return true
      },
      async (repository, server) => {
        await repository.push(manifest.descriptor, Readable.from([manifest.bytes]))
        expect(methods(server)).toEqual(['PUT', 'PUT', 'PUT'])
      },
    )
  })
})
