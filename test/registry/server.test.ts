import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { InvalidArgumentError } from '../../src/errors.ts'
import { digestOf } from '../../src/image/digest.ts'
import { createRegistryServer, diskStorage, type RegistryServer } from '../../src/registry/index.ts'
import { temporaryDirectory } from './support.ts'

/** A connection that sends exactly these bytes, and gathers what comes back. */
async function dial(registry: RegistryServer, text: string): Promise<{ socket: Socket; received: () => string }> {
  const socket = connect(registry.port, '127.0.0.1')
  let received = ''
  socket.on('data', (chunk) => {
    received += chunk.toString('latin1')
  })
  socket.on('error', () => {})
  await once(socket, 'connect')
  socket.write(text)
  return { socket, received: () => received }
}

/** When the connection is over, in whatever way. */
function closed(socket: Socket): Promise<void> {
  if (socket.closed) return Promise.resolve()
  return new Promise((resolve) => {
    socket.once('close', () => resolve())
  })
}

describe('a registry server', () => {
  let registry: RegistryServer

  beforeAll(async () => {
    registry = await createRegistryServer()
  })
  afterAll(() => registry.close())

  it('tells its address, and answers there', async () => {
    expect(registry.host).toBe(`127.0.0.1:${registry.port}`)
    expect(registry.url).toBe(`http://${registry.host}`)
    const response = await fetch(`${registry.url}/v2/`)
    expect(response.status).toBe(200)
    expect(response.headers.get('docker-distribution-api-version')).toBe('registry/2.0')
  })

  it('listens on IPv6 too', async () => {
    const server = await createRegistryServer({ host: '::1' })
    expect(server.url).toMatch(/^http:\/\/\[::1\]:\d+$/)
    expect((await fetch(`${server.url}/v2/`)).status).toBe(200)
    await server.close()
  })

  it('refuses options that make no sense', async () => {
    for (const options of [{ port: -1 }, { port: 70_000 }, { maxUploads: 0 }, { maxBlobSize: 'big' as '1m' }]) {
      await expect(createRegistryServer(options)).rejects.toBeInstanceOf(InvalidArgumentError)
    }
  })

  it('reports a port that is taken', async () => {
    await expect(createRegistryServer({ port: registry.port })).rejects.toMatchObject({ code: 'EADDRINUSE' })
  })

  it('answers HEAD without a body, also with an error', async () => {
    const { socket, received } = await dial(
      registry,
      'HEAD /v2/a/manifests/none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    )
    await closed(socket)
    expect(received()).toMatch(/^HTTP\/1\.1 404 /)
    expect(received()).toMatch(/\r\n\r\n$/)
  })

  it('keeps a connection for the next request after a body it did not want', async () => {
    const body = 'x'.repeat(1_000_000)
    const { socket, received } = await dial(
      registry,
      `PUT /v2/a/blobs/uploads/none?digest=sha256:0 HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}` +
        'GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    )
    await closed(socket)
    expect(received()).toMatch(/^HTTP\/1\.1 400 [\s\S]*HTTP\/1\.1 200 /)
  })

  it('answers a manifest that is far too large before it has arrived, and ends the connection', async () => {
    const { socket, received } = await dial(
      registry,
      'PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000000\r\n\r\n',
    )
    const chunk = Buffer.alloc(1_000_000)
    let sent = 0
    const pump = (): void => {
      while (socket.writable && socket.write(chunk)) sent += chunk.length
    }
    socket.on('drain', pump)
    pump()
    await closed(socket)
    expect(received()).toMatch(/^HTTP\/1\.1 413 /)
    expect(sent).toBeLessThan(100_000_000)
  })

  it('asks a client that waits for 100 Continue only for a body it wants', async () => {
    const head = (path: string): string =>
      `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n`
    const wanted = await dial(registry, head(`/v2/a/blobs/uploads/?digest=${digestOf(Buffer.from('hello'))}`))
    await vi.waitFor(() => expect(wanted.received()).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\n$/))
    wanted.socket.write('hello')
    await closed(wanted.socket)
    expect(wanted.received()).toMatch(/HTTP\/1\.1 201 /)
    const unwanted = await dial(registry, head('/v2/a/blobs/uploads/?digest=sha256:bad'))
    await closed(unwanted.socket)
    expect(unwanted.received()).toMatch(/^HTTP\/1\.1 400 /)
  })

  it.each([
    ['a target that is no path', 'GET http://elsewhere/v2/ HTTP/1.1\r\nHost: x\r\n\r\n', 400],
    ['a method that fetch forbids', 'TRACE /v2/ HTTP/1.1\r\nHost: x\r\n\r\n', 400],
    ['bad percent-encoding', 'GET /v2/%zz/manifests/a HTTP/1.1\r\nHost: x\r\n\r\n', 400],
    ['two lengths', 'PUT /v2/a/manifests/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n', 400],
    ['headers without end', `GET /v2/ HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(100_000)}`, 431],
    ['a method that nobody knows', 'POST /v2/a/manifests/a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n', 405],
  ])('survives %s', async (_, text, status) => {
    const { socket, received } = await dial(registry, text)
    await vi.waitFor(() => expect(received()).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `)))
    socket.destroy()
    expect((await fetch(`${registry.url}/v2/`)).status).toBe(200)
  })
})

describe('a registry server with slow clients', () => {
  let registry: RegistryServer
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>

  beforeAll(async () => {
    directory = await temporaryDirectory()
    registry = await createRegistryServer({ storage: diskStorage(directory.path), idleTimeout: 200 })
  })
  afterAll(async () => {
    await registry.close()
    await directory.remove()
  })

  it('ends a connection whose headers do not come', async () => {
    const { socket } = await dial(registry, 'GET /v2/ HT')
    await closed(socket)
  })

  it('ends a connection whose body does not come, and keeps what came', async () => {
    const begun = await fetch(`${registry.url}/v2/slow/blobs/uploads/`, { method: 'POST' })
    const path = begun.headers.get('location')
    const { socket } = await dial(registry, `PATCH ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc`)
    await closed(socket)
    await vi.waitFor(async () => {
      const status = await fetch(`${registry.url}${path}`)
      expect(status.headers.get('range')).toBe('0-2')
    })
  })

  it('ends a connection whose body comes a byte at a time', async () => {
    const begun = await fetch(`${registry.url}/v2/slow/blobs/uploads/`, { method: 'POST' })
    const path = begun.headers.get('location')
    const { socket } = await dial(registry, `PATCH ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc`)
    const drip = setInterval(() => socket.write('x'), 20)
    await closed(socket).finally(() => clearInterval(drip))
  })

  it('ends a connection whose client does not read', async () => {
    const content = Buffer.alloc(50_000_000, 'x')
    const digest = digestOf(content)
    await fetch(`${registry.url}/v2/slow/blobs/uploads/?digest=${digest}`, { method: 'POST', body: content })
    const socket = connect(registry.port, '127.0.0.1')
    socket.on('error', () => {})
    await once(socket, 'connect')
    socket.pause()
    socket.write(`GET /v2/slow/blobs/${digest} HTTP/1.1\r\nHost: x\r\n\r\n`)
    await vi.waitFor(
      () => {
        // A write to a connection that the server has ended fails.
        socket.write('GET ')
        expect(socket.destroyed).toBe(true)
      },
      { timeout: 20_000, interval: 50 },
    )
  })
})

describe('closing a registry server', () => {
  it('ends idle connections at once, and can be done twice', async () => {
    const registry = await createRegistryServer({ closeTimeout: '1h' })
    const { socket, received } = await dial(registry, 'GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n')
    await vi.waitFor(() => expect(received()).toMatch(/^HTTP\/1\.1 200 /))
    const ended = closed(socket)
    await Promise.all([registry.close(), registry.close()])
    await ended
    await registry[Symbol.asyncDispose]()
    await expect(fetch(`${registry.url}/v2/`)).rejects.toThrow()
  })

  it('gives requests that have begun their time, no more', async () => {
    const registry = await createRegistryServer({ closeTimeout: 50 })
    const { socket } = await dial(
      registry,
      'PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc',
    )
    const ended = closed(socket)
    await registry.close()
    await ended
  })

  it('lets the process end when the server is unreferenced, and not otherwise', async () => {
    const module = new URL('../../src/registry/index.ts', import.meta.url)
    const run = (options: string): ReturnType<typeof spawn> => {
      const script = `import(${JSON.stringify(module.href)}).then(async ({ createRegistryServer }) => {
        await createRegistryServer(${options})
        process.stdout.write('listening')
      })`
      const root = fileURLToPath(new URL('../..', import.meta.url))
      return spawn(process.execPath, ['--import', 'tsx', '--eval', script], {
        cwd: root,
        stdio: ['ignore', 'pipe', 'inherit'],
      })
    }
    const free = run('{ unref: true }')
    const [code] = await once(free, 'exit')
    expect(code).toBe(0)
    const holding = run('{}')
    const stdout = holding.stdout
    if (stdout === null) throw new Error('no output')
    await once(stdout, 'data')
    expect(holding.exitCode).toBeNull()
    holding.kill('SIGKILL')
    await once(holding, 'exit')
  })
})
