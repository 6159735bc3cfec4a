import type { ServerResponse } from 'node:http'
import { describe, expect, it } from 'vitest'
import {
  type Credential,
  type FetchInit,
  openRepository,
  type Repository,
  type ResponseLike,
  staticCredentials,
} from '../../src/distribution/index.ts'
import { LimitError, ProtocolError, RegistryError } from '../../src/errors.ts'
import { randomLayer } from './support/images.ts'
import { type Handler, type ScriptedServer, serve, startServer } from './support/scripted-server.ts'

const password: Credential = { kind: 'password', username: 'user', password: 'hunter2' }
const basic = `Basic ${btoa('user:hunter2')}`
const layer = randomLayer(1000)

function open(host: string, credential: Credential = password): Repository {
  const credentials = staticCredentials({ [host]: credential })
  return openRepository(`${host}/app`, { credentials, retry: { minDelay: 1, maxDelay: 2 } })
}

/** A registry that asks for Basic, and does what `handler` says with those who have it. */
function basicRegistry(handler: Handler): Promise<ScriptedServer> {
  return startServer((request, response, count) => {
    if (request.headers.authorization === basic) handler(request, response, count)
    else response.writeHead(401, { 'www-authenticate': 'Basic realm="test"' }).end()
  })
}

/** A registry that asks for a token of `realm`, and serves the layer to those who have `Bearer good`. */
function tokenRegistry(realm: string, parameters = 'service="s"'): Promise<ScriptedServer> {
  return startServer((request, response) => {
    if (request.headers.authorization === 'Bearer good') serve(request, response, layer.bytes)
    else response.writeHead(401, { 'www-authenticate': `Bearer realm="${realm}",${parameters}` }).end()
  })
}

const json = (response: ServerResponse, body: unknown): void => {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

describe('a password', () => {
  it('is not sent before the registry asks for it, and from then on with every request', async () => {
    await using registry = await basicRegistry((request, response) => serve(request, response, layer.bytes))
    const repository = open(registry.host)
    for (let i = 0; i < 3; i++) (await repository.fetch(layer.descriptor)).resume()
    expect(registry.seen.map(({ headers }) => headers.authorization)).toEqual([undefined, basic, basic, basic])
  })

  it('does not follow a redirect to another port', async () => {
    await using storage = await startServer((request, response) => serve(request, response, layer.bytes))
    await using registry = await basicRegistry((_request, response) => {
      response.writeHead(307, { location: `http://${storage.host}/blob?signature=x` }).end()
    })
    const stream = await open(registry.host).fetch(layer.descriptor)
    expect(Buffer.concat(await stream.toArray())).toEqual(Buffer.from(layer.bytes))
    expect(storage.seen).toHaveLength(1)
    expect(storage.seen[0]?.headers.authorization).toBeUndefined()
  })

  it('stays away when another host sends the request back', async () => {
    let home = ''
    await using storage = await startServer((_request, response) => {
      response.writeHead(307, { location: `http://${home}/steered` }).end()
    })
    await using registry = await startServer((request, response) => {
      if (request.url === '/steered') serve(request, response, layer.bytes)
      else if (request.headers.authorization === undefined) {
        response.writeHead(401, { 'www-authenticate': 'Basic realm="test"' }).end()
      } else response.writeHead(307, { location: `http://${storage.host}/` }).end()
    })
    home = registry.host
    ;(await open(registry.host).fetch(layer.descriptor)).resume()
    expect(registry.seen.find(({ url }) => url === '/steered')?.headers.authorization).toBeUndefined()
  })

  it('follows a redirect within the registry', async () => {
    await using registry = await basicRegistry((request, response) => {
      if (request.url === '/moved') serve(request, response, layer.bytes)
      else response.writeHead(308, { location: '/moved' }).end()
    })
    ;(await open(registry.host).fetch(layer.descriptor)).resume()
    expect(registry.seen.at(-1)).toMatchObject({ url: '/moved', headers: { authorization: basic } })
  })

  it('does not go to an upload location on another port, nor does the challenge of that host count', async () => {
    await using storage = await startServer((request, response) => {
      request.resume()
      response.writeHead(401, { 'www-authenticate': 'Basic realm="phishing"' }).end()
    })
    await using registry = await basicRegistry((request, response) => {
      if (request.method === 'POST') response.writeHead(202, { location: `http://${storage.host}/up` }).end()
      else response.writeHead(404).end()
    })
    await expect(open(registry.host).push(layer.descriptor, layer.bytes)).rejects.toMatchObject({ status: 401 })
    for (const { headers } of storage.seen) expect(headers.authorization).toBeUndefined()
  })

  it('is read from its source once, and again when it is refused', async () => {
    let current = 'first'
    let asked = 0
    await using registry = await startServer((request, response) => {
      if (request.headers.authorization === `Basic ${btoa(`user:${current}`)}`) serve(request, response, layer.bytes)
      else response.writeHead(401, { 'www-authenticate': 'Basic realm="test"' }).end()
    })
    const credentials = async (): Promise<Credential> => {
      asked++
      return { kind: 'password', username: 'user', password: current }
    }
    const repository = openRepository(`${registry.host}/app`, { credentials })
    for (let i = 0; i < 3; i++) (await repository.fetch(layer.descriptor)).resume()
    expect(asked).toBe(1)
    current = 'second'
    ;(await repository.fetch(layer.descriptor)).resume()
    expect(asked).toBe(2)
  })

  it('that is refused is sent once, not over and over', async () => {
    await using registry = await startServer((_request, response) => {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="test"' }).end()
    })
    await expect(open(registry.host).fetch(layer.descriptor)).rejects.toMatchObject({ status: 401 })
    expect(registry.seen).toHaveLength(2)
  })

  it('is not part of any message', async () => {
    await using registry = await basicRegistry((request, response) => {
      response.writeHead(500).end(request.headers.authorization)
    })
    const error = await open(registry.host)
      .fetch(layer.descriptor)
      .catch((e: unknown) => e)
    for (let e = error; e instanceof Error; e = e.cause) {
      expect(`${e.stack}${JSON.stringify(e)}`).not.toMatch(new RegExp(`hunter2|${btoa('user:hunter2')}`))
    }
  })
})

describe('a token', () => {
  it('is asked for with the password, and only by the token server of the registry', async () => {
    await using tokens = await startServer((_request, response) => json(response, { token: 'good' }))
    await using registry = await tokenRegistry(`http://${tokens.host}/token?fixed=1`)
    ;(await open(registry.host).fetch(layer.descriptor)).resume()
    expect(tokens.seen).toHaveLength(1)
    const url = new URL(tokens.seen[0]?.url ?? '', 'http://x')
    expect(Object.fromEntries(url.searchParams)).toEqual({
      fixed: '1',
      service: 's',
      scope: 'repository:app:pull',
      account: 'user',
      client_id: 'oci-ts',
    })
    expect(tokens.seen[0]?.headers.authorization).toBe(basic)
    expect(registry.seen.map(({ headers }) => headers.authorization)).toEqual([undefined, 'Bearer good'])
  })

  it('that is refused ends in 401 after a bounded number of requests', async () => {
    let count = 0
    await using tokens = await startServer((_request, response) => json(response, { token: `bad${count++}` }))
    await using registry = await tokenRegistry(`http://${tokens.host}/token`)
    await expect(open(registry.host).fetch(layer.descriptor)).rejects.toThrow(RegistryError)
    expect(registry.seen.length).toBeLessThanOrEqual(3)
    expect(tokens.seen.length).toBeLessThanOrEqual(2)
  })

  it('that the registry no longer accepts is replaced', async () => {
    let current = 0
    await using tokens = await startServer((_request, response) => json(response, { access_token: `t${current}` }))
    await using registry = await startServer((request, response) => {
      if (request.headers.authorization === `Bearer t${current}`) return serve(request, response, layer.bytes)
      response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${tokens.host}/token"` }).end()
    })
    const repository = open(registry.host)
    ;(await repository.fetch(layer.descriptor)).resume()
    current++
    ;(await repository.fetch(layer.descriptor)).resume()
    expect(registry.seen.map(({ headers }) => headers.authorization)).toEqual([
      undefined,
      'Bearer t0',
      'Bearer t0',
      'Bearer t1',
    ])
  })

  it('has the scope that the challenge adds', async () => {
    await using tokens = await startServer((_request, response) => json(response, { token: 'good' }))
    await using registry = await tokenRegistry(
      `http://${tokens.host}/`,
      'scope="repository:app:push,pull registry:catalog:*"',
    )
    ;(await open(registry.host).fetch(layer.descriptor)).resume()
    const url = new URL(tokens.seen[0]?.url ?? '', 'http://x')
    expect(url.searchParams.getAll('scope')).toEqual(['registry:catalog:*', 'repository:app:pull,push'])
  })

  it('is not asked of a realm that is no safe URL', async () => {
    const realms = [
      'ftp://127.0.0.1/token',
      'file:///etc/passwd',
      '/token',
      'http://user:pass@127.0.0.1/token',
      'http://169.254.169.254/latest/meta-data',
      'http://auth.example.test/token',
    ]
    for (const realm of realms) {
      await using registry = await tokenRegistry(realm)
      const error = await open(registry.host)
        .fetch(layer.descriptor)
        .catch((e: unknown) => e)
      expect(error, realm).toBeInstanceOf(ProtocolError)
    }
  })

  it('is not asked of where the token server redirects to', async () => {
    await using other = await startServer((_request, response) => json(response, { token: 'good' }))
    await using tokens = await startServer((_request, response) => {
      response.writeHead(307, { location: `http://${other.host}/` }).end()
    })
    await using registry = await tokenRegistry(`http://${tokens.host}/`)
    for (const credential of [password, { kind: 'identity', token: 'refresh' }] as const) {
      await expect(open(registry.host, credential).fetch(layer.descriptor)).rejects.toThrow(ProtocolError)
    }
    expect(other.seen).toHaveLength(0)
  })

  it('that is no token is refused, and not shown', async () => {
    for (const token of ['two words', 'line\r\nX-Injected: 1', '', 42, undefined]) {
      await using tokens = await startServer((_request, response) => json(response, { token }))
      await using registry = await tokenRegistry(`http://${tokens.host}/`)
      const error = await open(registry.host)
        .fetch(layer.descriptor)
        .catch((e: unknown) => e)
      expect(error).toBeInstanceOf(ProtocolError)
      expect(String(error)).not.toContain('words')
    }
  })

  it('of a megabyte is not read', async () => {
    await using tokens = await startServer((_request, response) => json(response, { token: 'x'.repeat(2 ** 20) }))
    await using registry = await tokenRegistry(`http://${tokens.host}/`)
    await expect(open(registry.host).fetch(layer.descriptor)).rejects.toThrow(LimitError)
  })

  it('server that is not there does not mean that the content is not there', async () => {
    await using tokens = await startServer((_request, response) => response.writeHead(404).end())
    await using registry = await tokenRegistry(`http://${tokens.host}/`)
    await expect(open(registry.host).fetch(layer.descriptor)).rejects.toThrow(RegistryError)
  })

  it('for pull alone is enough to ask whether something exists', async () => {
    await using tokens = await startServer((request, response) => {
      if (request.url?.includes('push')) response.writeHead(403).end()
      else json(response, { token: 'good' })
    })
    await using registry = await tokenRegistry(`http://${tokens.host}/`)
    expect(await open(registry.host).exists(layer.descriptor)).toBe(true)
  })

  it('of a server that is busy is waited for', async () => {
    await using tokens = await startServer((_request, response, count) => {
      if (count < 3) response.writeHead(503).end()
      else json(response, { token: 'good' })
    })
    await using registry = await tokenRegistry(`http://${tokens.host}/`)
    ;(await open(registry.host).fetch(layer.descriptor)).resume()
    expect(tokens.seen).toHaveLength(3)
  })

  it('is fetched with the refresh token that came with the last one', async () => {
    const used: (string | null)[] = []
    await using tokens = await startServer((request, response) => {
      let form = ''
      request.on('data', (chunk) => {
        form += chunk
      })
      request.once('end', () => {
        used.push(new URLSearchParams(form).get('refresh_token'))
        json(response, { access_token: `t${used.length}`, refresh_token: `refresh${used.length}` })
      })
    })
    await using registry = await startServer((request, response) => {
      if (request.headers.authorization === `Bearer t${request.url?.includes('1'.repeat(64)) ? 3 : 2}`) {
        return serve(request, response, layer.bytes)
      }
      response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${tokens.host}/"` }).end()
    })
    const repository = open(registry.host, { kind: 'identity', token: 'refresh0' })
    ;(await repository.fetch(layer.descriptor)).resume()
    ;(await repository.fetch({ ...layer.descriptor, digest: `sha256:${'1'.repeat(64)}` })).resume()
    expect(used).toEqual(['refresh0', 'refresh1', 'refresh2'])
  })
})

describe('a registry on the network', () => {
  const host = 'registry.example.test'
  interface Sent extends FetchInit {
    readonly url: string
  }
  const reply = (status: number, headers: Record<string, string>, body: Uint8Array | string = ''): ResponseLike =>
    new Response(status === 204 ? null : typeof body === 'string' ? body : Buffer.from(body), {
      status,
      headers,
    }) as unknown as ResponseLike

  async function talk(
    answer: (request: Sent) => ResponseLike,
  ): Promise<{ readonly sent: readonly Sent[]; readonly error: unknown }> {
    const sent: Sent[] = []
    const repository = openRepository(`${host}/app`, {
      credentials: staticCredentials({ [host]: password }),
      async fetch(url, init) {
        const request = { ...init, url }
        sent.push(request)
        return answer(request)
      },
    })
    const error = await repository.fetch(layer.descriptor).then(
      (stream) => void stream.resume(),
      (e: unknown) => e,
    )
    return { sent, error }
  }

  it('is spoken to in https', async () => {
    const { sent, error } = await talk(() => reply(200, {}, layer.bytes))
    expect(error).toBeUndefined()
    expect(sent.map(({ url }) => url)).toEqual([`https://${host}/v2/app/blobs/${layer.descriptor.digest}`])
  })

  it('is not followed from https to http, nor to this machine or to a metadata service', async () => {
    for (const location of [
      `http://${host}/x`,
      'https://127.0.0.1/x',
      'https://localhost/x',
      'https://[::1]/x',
      'https://169.254.169.254/x',
      'https://[fe80::1]/x',
      'https://[::ffff:169.254.169.254]/x',
      'https://[::ffff:127.0.0.1]/x',
      'https://2130706433/x',
      'https://localhost./x',
      'https://0.0.0.0/x',
      'https://[::]/x',
      'file:///etc/passwd',
    ]) {
      const { sent, error } = await talk(() => reply(307, { location }))
      expect(error, location).toBeInstanceOf(ProtocolError)
      expect(sent).toHaveLength(1)
    }
  })

  it('is not followed in circles', async () => {
    const { sent, error } = await talk(({ url }) => reply(302, { location: `${url}x` }))
    expect(error).toBeInstanceOf(ProtocolError)
    expect(sent).toHaveLength(6)
  })

  it('gets no token server on plain http, on this machine or on a metadata service asked', async () => {
    for (const realm of [
      `http://${host}/token`,
      'http://auth.example.test/',
      'https://127.0.0.1/',
      'https://169.254.169.254/',
    ]) {
      const { sent, error } = await talk(() => reply(401, { 'www-authenticate': `Bearer realm="${realm}"` }))
      expect(error, realm).toBeInstanceOf(ProtocolError)
      expect(sent).toHaveLength(1)
    }
  })

  it('may have its token server on another host, as Docker Hub has', async () => {
    const { sent, error } = await talk(({ url, headers }) => {
      if (url.startsWith('https://auth.example.test/')) return reply(200, {}, '{"token":"good"}')
      if (headers.authorization === 'Bearer good') return reply(200, {}, layer.bytes)
      return reply(401, { 'www-authenticate': 'Bearer realm="https://auth.example.test/token",service="hub"' })
    })
    expect(error).toBeUndefined()
    expect(sent.map(({ headers }) => headers.authorization)).toEqual([undefined, basic, 'Bearer good'])
  })
})
