import { describe, expect, it } from 'vitest'
import { readAll } from '../../src/content/verify.ts'
import { DigestMismatchError, LimitError, SizeMismatchError, SpecError } from '../../src/errors.ts'
import { content, image, randomLayer } from './support/images.ts'
import { against, serve } from './support/scripted-server.ts'

const mebibyte = 2 ** 20

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

  it('of a type that nobody knows is found where it was resolved', async () => {
    const type = 'application/vnd.example.future.manifest.v3+json'
    const future = content(type, '{ "future": true }')
    await against(
      (request, response) => {
        response.setHeader('content-type', type)
        response.setHeader('docker-content-digest', future.descriptor.digest)
        if (request.url?.startsWith('/v2/app/manifests/') !== true) return void response.writeHead(404).end()
        serve(request, response, future.bytes)
      },
      async (repository) => {
        const descriptor = await repository.resolve('1')
        expect(descriptor).toEqual(future.descriptor)
        expect(Buffer.from(await readAll(repository, descriptor, 100))).toEqual(Buffer.from(future.bytes))
      },
    )
  })

  it('is not what the page of a captive portal is taken for', async () => {
    await against(
      (_request, response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<html>Log in</html>'),
      async (repository) => {
        await expect(repository.resolve('1')).rejects.toThrow(SpecError)
      },
    )
  })
})
