import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { anonymous, openRepository, proxyFromEnvironment } from '../../../src/distribution/index.ts'
import { isExempt } from '../../../src/distribution/network/proxy.ts'
import { InvalidArgumentError, NetworkError } from '../../../src/errors.ts'
import { createRegistryServer } from '../../../src/registry/index.ts'
import { makeCertificates } from '../support/certificates.ts'
import { hasProgram } from '../support/docker-registry.ts'
import { randomLayer, temporaryDirectory } from '../support/images.ts'

/** A proxy that connects to wherever it is told, or answers with `status`. */
async function startProxy(status = 200): Promise<AsyncDisposable & { readonly port: number; readonly seen: string[] }> {
  const seen: string[] = []
  const sockets = new Set<Socket>()
  const server = createServer((_, response) => void response.writeHead(400).end())
  server.on('connect', (request, socket: Socket) => {
    seen.push(`${request.url} ${request.headers['proxy-authorization'] ?? '-'}`)
    sockets.add(socket)
    socket.on('error', () => {})
    if (status !== 200) return void socket.end(`HTTP/1.1 ${status} no\r\n\r\n`)
    const [host, port] = (request.url ?? '').split(':')
    const target = connect(Number(port), host, () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n')
      socket.pipe(target).pipe(socket)
    })
    sockets.add(target)
    target.on('error', () => socket.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    seen,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

afterEach(() => {
  vi.unstubAllEnvs()
})

describe('a proxy', () => {
  it('takes connections to registries, with its password, over one tunnel', async () => {
    await using proxy = await startProxy()
    await using registry = await createRegistryServer()
    const options = { credentials: anonymous, proxy: `http://me:se%20cret@127.0.0.1:${proxy.port}` }
    const repository = openRepository(`${registry.host}/app`, options)
    const layer = randomLayer(300_000)
    await repository.push(layer.descriptor, layer.bytes)
    expect(await repository.exists(layer.descriptor)).toBe(true)
    expect(proxy.seen).toEqual([`${registry.host} Basic ${btoa('me:se cret')}`])
  })

  it.skipIf(!hasProgram('openssl'))('sees nothing of TLS (needs openssl)', async () => {
    await using directory = await temporaryDirectory()
    const certificates = await makeCertificates(directory.path)
    await using proxy = await startProxy()
    await using registry = await createRegistryServer({ tls: certificates.server })
    const tls = { [registry.host]: { ca: certificates.ca } }
    const options = { credentials: anonymous, insecure: false, tls, proxy: `http://127.0.0.1:${proxy.port}` }
    expect(await openRepository(`${registry.host}/app`, options).exists(randomLayer(1).descriptor)).toBe(false)
    expect(proxy.seen).toEqual([`${registry.host} -`])
    // The certificate is the registry's, not the proxy's, and it is checked.
    const strict = openRepository(`${registry.host}/app`, { ...options, tls: {} })
    await expect(strict.resolve('1')).rejects.toThrow(/SELF_SIGNED|UNABLE_TO/)
  })

  it('that refuses, or is not there, is an error that names it and not its password', async () => {
    await using proxy = await startProxy(407)
    for (const port of [proxy.port, 1]) {
      const options = { credentials: anonymous, insecure: true, proxy: `http://me:secret@127.0.0.1:${port}` }
      const error = await openRepository('registry.test/app', options)
        .resolve('1')
        .catch((e: unknown) => e)
      expect(error).toBeInstanceOf(NetworkError)
      expect(String(error)).toContain(`127.0.0.1:${port}`)
      expect(String(error)).not.toContain('secret')
    }
  })

  it('is no other protocol', () => {
    for (const proxy of ['socks5://127.0.0.1:1', 'nonsense']) {
      expect(() => openRepository('registry.test/app', { proxy })).toThrow(InvalidArgumentError)
    }
  })
})

describe('the environment', () => {
  const clean = ['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'NO_PROXY'].flatMap((name) => [name, name.toLowerCase()])
  const ask = (url: string, env: Readonly<Record<string, string>>): string | undefined => {
    for (const name of clean) vi.stubEnv(name, env[name] ?? '')
    return proxyFromEnvironment(new URL(url))
  }

  it('names a proxy by scheme, or one for all', () => {
    expect(ask('https://a.test', { HTTPS_PROXY: 'http://p:1', HTTP_PROXY: 'http://q:1' })).toBe('http://p:1')
    expect(ask('http://a.test', { HTTPS_PROXY: 'http://p:1', http_proxy: 'q:1' })).toBe('http://q:1')
    expect(ask('https://a.test', { ALL_PROXY: 'http://all:1' })).toBe('http://all:1')
    expect(ask('https://a.test', {})).toBeUndefined()
  })

  it('names none for this machine, nor for what NO_PROXY lists', () => {
    expect(ask('https://127.0.0.1:5000', { HTTPS_PROXY: 'http://p:1' })).toBeUndefined()
    expect(ask('https://localhost', { HTTPS_PROXY: 'http://p:1' })).toBeUndefined()
    expect(ask('https://a.test', { HTTPS_PROXY: 'http://p:1', no_proxy: 'b.test, a.test' })).toBeUndefined()
  })

  it.each([
    ['https://a.test', 'a.test', true],
    ['https://sub.a.test', 'a.test', true],
    ['https://sub.a.test', '.a.test', true],
    ['https://sub.a.test', '*.a.test', true],
    ['https://ba.test', 'a.test', false],
    ['https://a.test:5000', 'a.test:5000', true],
    ['https://a.test:5001', 'a.test:5000', false],
    ['https://a.test', 'a.test:443', true],
    ['https://anything', '*', true],
    ['https://10.1.2.3', '10.0.0.0/8', true],
    ['https://11.1.2.3', '10.0.0.0/8', false],
    ['https://10.1.2.3', '10.1.2.3', true],
    ['https://[fd00::1]', 'fd00::/8', true],
    ['https://[fe00::1]', 'fd00::/8', false],
    ['https://10.1.2.3', '10.0.0.0/99', false],
    ['https://a.test', '', false],
  ])('%s is exempt by %j: %s', (url, list, exempt) => {
    expect(isExempt(new URL(url), list)).toBe(exempt)
  })
})
