import type { Socket } from 'node:net'
import { describe, expect, it } from 'vitest'
import { readAll } from '../../src/content/verify.ts'
import {
  anonymous,
  createRegistryClient,
  openRepository,
  type RegistryEvent,
  staticCredentials,
} from '../../src/distribution/index.ts'
import { NotFoundError, RegistryError } from '../../src/errors.ts'
import { randomLayer } from './support/images.ts'
import { against, drop, serve, startServer } from './support/scripted-server.ts'

const mebibyte = 2 ** 20

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

  it('is not asked again by many requests each on its own: they share a budget, which successes fill', async () => {
    let down = true
    await against(
      (request, response) => {
        if (down) response.writeHead(503).end()
        else serve(request, response, layer.bytes)
      },
      async (repository, server) => {
        const all = Array.from({ length: 20 }, () => repository.fetch(layer.descriptor))
        for (const { status } of await Promise.allSettled(all)) expect(status).toBe('rejected')
        expect(server.seen).toHaveLength(20 + 7)
        down = false
        for (let i = 0; i < 3; i++) (await repository.fetch(layer.descriptor)).destroy()
        down = true
        await expect(repository.fetch(layer.descriptor)).rejects.toMatchObject({ status: 503 })
        expect(server.seen).toHaveLength(27 + 3 + 4)
      },
      { retry: { minDelay: 1, maxDelay: 2, budget: 7 } },
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

  it('in https, because it speaks plain http, is an error that says what to do', async () => {
    await using server = await startServer((_, response) => void response.end())
    const repository = openRepository(`${server.host}/app`, { credentials: anonymous, insecure: false })
    await expect(repository.resolve('1')).rejects.toThrow(/plain http.*insecure/)
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

describe('a password that a registry with Basic authentication does not take any more', () => {
  const layer = randomLayer(1000)

  it('keeps nobody from reading what is public, and is sent there once only', async () => {
    await using server = await startServer((request, response) => {
      const isOpen = request.url?.startsWith('/v2/public/') === true && request.headers.authorization === undefined
      if (isOpen && request.method === 'GET') serve(request, response, layer.bytes)
      else response.writeHead(401, { 'www-authenticate': 'Basic realm="test"' }).end()
    })
    const events: RegistryEvent[] = []
    await using client = createRegistryClient({
      credentials: staticCredentials({ [server.host]: { kind: 'password', username: 'u', password: 'old' } }),
      onEvent: (event) => events.push(event),
    })
    const open = (name: string) => client.repository(`${server.host}/${name}`)
    const answers = (from: number) => server.seen.slice(from).map(({ headers }) => headers.authorization !== undefined)

    await expect(open('private').fetch(layer.descriptor)).rejects.toMatchObject({ status: 401 })
    expect(answers(0)).toEqual([false, true])

    for (let round = 0; round < 2; round++) {
      const bytes = await readAll(open('public'), layer.descriptor, 1000)
      expect(Buffer.compare(bytes, layer.bytes)).toBe(0)
    }
    expect(answers(2)).toEqual([true, false, false])
    expect(events).toMatchObject([{ kind: 'credential-refused', registry: server.host, error: { status: 401 } }])

    // Who may not read gets the same answer twice, and no password a second time.
    await expect(open('private').fetch(layer.descriptor)).rejects.toMatchObject({ status: 401 })
    expect(answers(5)).toEqual([true, false])
    await expect(open('private').delete(layer.descriptor)).rejects.toMatchObject({ status: 401 })
    expect(answers(7)).toEqual([true])
    await expect(open('public').delete(layer.descriptor)).rejects.toMatchObject({ status: 401 })
    expect(answers(8)).toEqual([false, true])
    await expect(client.ping(server.host)).rejects.toMatchObject({ status: 401 })
  })
})
