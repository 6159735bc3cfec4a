import { execFile } from 'node:child_process'
import { getEventListeners } from 'node:events'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { readAll } from '../../src/content/verify.ts'
import {
  anonymous,
  createRegistryClient,
  type Insecure,
  openRepository,
  type RegistryClientOptions,
} from '../../src/distribution/index.ts'
import { InvalidArgumentError, InvalidReferenceError } from '../../src/errors.ts'
import { randomLayer } from './support/images.ts'
import { serve, startServer } from './support/scripted-server.ts'

const layer = randomLayer(300_000)

/** URL of the first request for a tag of `reference`. */
async function firstUrl(reference: string, insecure?: Insecure): Promise<string> {
  let first = ''
  const options: RegistryClientOptions = {
    credentials: anonymous,
    insecure,
    async fetch(url) {
      first ||= url
      return { status: 404, headers: { get: () => null }, body: null }
    },
  }
  await openRepository(reference, options)
    .resolve('1')
    .catch(() => {})
  return first
}

describe('where a reference leads', () => {
  it('is Docker Hub without a domain', async () => {
    expect(await firstUrl('alpine')).toBe('https://registry-1.docker.io/v2/library/alpine/manifests/1')
    expect(await firstUrl('docker.io/org/app')).toBe('https://registry-1.docker.io/v2/org/app/manifests/1')
  })

  it('is https, except on this machine', async () => {
    expect(await firstUrl('ghcr.io/a')).toMatch('https://ghcr.io/')
    expect(await firstUrl('10.0.0.1:5000/a')).toMatch('https://10.0.0.1:5000/')
    expect(await firstUrl('localhost.example.test/a')).toMatch('https://')
    for (const host of ['localhost', 'localhost:5000', '127.0.0.1', '127.9.9.9:5000', '[::1]:5000']) {
      expect(await firstUrl(`${host}/a`), host).toBe(`http://${host}/v2/a/manifests/1`)
    }
  })

  it('is http where that is asked for', async () => {
    expect(await firstUrl('a.test/a', true)).toMatch('http://a.test/')
    expect(await firstUrl('a.test:5000/a', ['A.test:5000'])).toMatch('http://a.test:5000/')
    expect(await firstUrl('a.test/a', ['a.test:5000'])).toMatch('https://a.test/')
    expect(await firstUrl('127.0.0.1/a', ['a.test'])).toMatch('http://127.0.0.1/')
    expect(await firstUrl('127.0.0.1:5000/a', false)).toMatch('https://127.0.0.1:5000/')
  })

  it('is an error when it is no reference', () => {
    expect(() => openRepository('Upper/Case')).toThrow(InvalidReferenceError)
    for (const domain of ['a@b', 'a/b', 'a?b', 'a#b', 'a b', '[fffff::1]', '']) {
      expect(() => openRepository({ domain, repository: 'a' }), domain).toThrow(InvalidArgumentError)
    }
  })
})

describe('a client', () => {
  it('works with the fetch function of the platform', async () => {
    await using server = await startServer((request, response) => {
      if (request.method === 'PUT') {
        request.resume()
        request.once('end', () => response.writeHead(201).end())
      } else if (request.method === 'POST') response.writeHead(202, { location: '/up' }).end()
      else if (request.method === 'HEAD') response.writeHead(404).end()
      else serve(request, response, layer.bytes)
    })
    const repository = openRepository(`${server.host}/a`, { credentials: anonymous, fetch: globalThis.fetch })
    expect(Buffer.compare(await readAll(repository, layer.descriptor, layer.bytes.byteLength), layer.bytes)).toBe(0)
    await repository.push(layer.descriptor, await repository.fetch(layer.descriptor))
    expect(server.seen.at(-1)).toMatchObject({ method: 'PUT', headers: { 'content-length': '300000' } })
  })

  it('uses one connection for requests that follow each other', async () => {
    const sockets = new Set<unknown>()
    await using server = await startServer((request, response) => {
      sockets.add(request.socket)
      serve(request, response, layer.bytes)
    })
    await using client = createRegistryClient({ credentials: anonymous })
    const repository = client.repository(`${server.host}/a`)
    for (let i = 0; i < 5; i++) {
      await repository.exists(layer.descriptor)
      await readAll(repository, layer.descriptor, layer.bytes.byteLength)
    }
    expect(sockets.size).toBe(1)
  })

  it('is not made with options that make no sense', () => {
    const wrong: readonly RegistryClientOptions[] = [
      { retry: { attempts: 0 } },
      { retry: { attempts: Number.NaN } },
      { retry: { minDelay: -1 } },
      { timeouts: { stall: Number.NaN } },
      { maxManifestSize: -1 },
    ]
    for (const options of wrong) expect(() => createRegistryClient(options)).toThrow(InvalidArgumentError)
  })

  it('says who it is', async () => {
    await using server = await startServer((request, response) => serve(request, response, layer.bytes))
    await openRepository(`${server.host}/a`, { credentials: anonymous }).exists(layer.descriptor)
    await openRepository(`${server.host}/a`, { credentials: anonymous, userAgent: 'ci/1' }).exists(layer.descriptor)
    expect(server.seen.map(({ headers }) => headers['user-agent'])).toEqual(['oci-ts', 'ci/1'])
  })

  it('leaves no listener on the signal', async () => {
    await using server = await startServer((request, response) => serve(request, response, layer.bytes))
    const repository = openRepository(`${server.host}/a`, { credentials: anonymous })
    const { signal } = new AbortController()
    await repository.exists(layer.descriptor, { signal })
    await readAll(repository, layer.descriptor, layer.bytes.byteLength, { signal })
    await repository.resolve('1', { signal }).catch(() => {})
    expect(getEventListeners(signal, 'abort')).toHaveLength(0)
  })

  it('does not keep the process alive with its idle connections', async () => {
    await using server = await startServer((request, response) => serve(request, response, layer.bytes))
    const module = new URL('../../src/distribution/index.ts', import.meta.url).href
    const code = `
      const { openRepository } = await import(${JSON.stringify(module)})
      const repository = openRepository(${JSON.stringify(`${server.host}/a`)})
      console.log(await repository.exists(${JSON.stringify(layer.descriptor)}), process.getActiveResourcesInfo().includes('Timeout'))
      process.once('exit', () => console.log(performance.now() - start < 5000))
      const start = performance.now()`
    const args = ['--import', 'tsx', '--input-type=module', '--eval', code]
    const { stdout } = await promisify(execFile)(process.execPath, args)
    expect(stdout).toBe('true false\ntrue\n')
  })
})
