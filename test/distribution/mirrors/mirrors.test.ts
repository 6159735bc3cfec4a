import { describe, expect, it } from 'vitest'
import { copy } from '../../../src/content/copy.ts'
import { MemoryStore } from '../../../src/content/memory.ts'
import { readAll } from '../../../src/content/verify.ts'
import {
  anonymous,
  createRegistryClient,
  type RegistryClientOptions,
  type RegistryEvent,
  type Repository,
} from '../../../src/distribution/index.ts'
import { NotFoundError } from '../../../src/errors.ts'
import { createRegistryServer, type RegistryServer } from '../../../src/registry/index.ts'
import { image, randomLayer } from '../support/images.ts'
import { drop, type Handler, startServer } from '../support/scripted-server.ts'

const layer = randomLayer(600_000)
const large = randomLayer(3_000_000)
const { config, manifest } = image(layer)

async function fill(server: RegistryServer, name = 'app'): Promise<void> {
  const repository = createRegistryClient({ credentials: anonymous }).repository(`${server.host}/${name}`)
  for (const { descriptor, bytes } of [layer, large, config]) await repository.push(descriptor, bytes)
  await repository.push(manifest.descriptor, manifest.bytes, { tags: ['1'] })
}

/** A registry with the image, a server in front of it as its mirror, and what the client tells. */
async function withMirror(
  mirror: Handler,
  use: (
    repository: Repository,
    told: { readonly events: RegistryEvent[]; readonly mirror: string[]; readonly origin: string },
  ) => Promise<void>,
  options: RegistryClientOptions = {},
  rule: { readonly pull?: 'digest' | 'tag'; readonly ns?: boolean } = {},
): Promise<void> {
  await using origin = await createRegistryServer()
  await fill(origin)
  await using server = await startServer(mirror)
  const events: RegistryEvent[] = []
  const client = createRegistryClient({
    credentials: anonymous,
    retry: { minDelay: 1, maxDelay: 2 },
    registries: [{ prefix: origin.host, mirrors: [{ location: `${server.host}/hub`, ...rule }] }],
    onEvent: (event) => events.push(event),
    ...options,
  })
  const seen: string[] = []
  await use(client.repository(`${origin.host}/app`), { events, mirror: seen, origin: origin.host })
  seen.push(...server.seen.map(({ method, url }) => `${method} ${url}`))
}

const pull = async (repository: Repository): Promise<void> => {
  const store = new MemoryStore()
  expect(await copy(repository, '1', store)).toEqual(manifest.descriptor)
  expect(await store.exists(layer.descriptor)).toBe(true)
}
const failures = (events: readonly RegistryEvent[]): number =>
  events.filter(({ kind }) => kind === 'mirror-failed').length

describe('a mirror', () => {
  it('that has everything is asked instead of the registry; pushes go to the registry', async () => {
    await using mirror = await createRegistryServer()
    await fill(mirror, 'hub/app')
    await using origin = await createRegistryServer()
    const registries = [{ prefix: origin.host, mirrors: [{ location: `${mirror.host}/hub` }] }]
    const repository = createRegistryClient({ credentials: anonymous, registries }).repository(`${origin.host}/app`)
    await pull(repository)
    const other = randomLayer(10)
    await repository.push(other.descriptor, other.bytes)
    const direct = createRegistryClient({ credentials: anonymous })
    expect(await direct.repository(`${origin.host}/app`).exists(other.descriptor)).toBe(true)
    expect(await direct.repository(`${mirror.host}/hub/app`).exists(other.descriptor)).toBe(false)
  })

  it.each<[string, Handler]>([
    ['has nothing', (_, response) => void response.writeHead(404).end()],
    ['is broken', (_, response) => void response.writeHead(500).end()],
    [
      'wants a password',
      (_, response) => void response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end(),
    ],
    ['hangs up', (_, response) => void response.socket?.destroy()],
    [
      'has other content',
      (_, response) => void response.writeHead(200, { 'content-type': 'application/json' }).end('{}'),
    ],
  ])('that %s does not matter', async (_, handler) => {
    await withMirror(handler, async (repository, { events }) => {
      await pull(repository)
      expect(failures(events)).toBeGreaterThan(0)
    })
  })

  it('that breaks off again and again is left in the middle of a blob', async () => {
    await withMirror(
      (request, response, count) => {
        if (!request.url?.includes('/blobs/')) return void response.writeHead(404).end()
        drop(request, response, large.bytes, count === 1 ? 2_000_000 : 0)
      },
      async (repository, { events }) => {
        expect((await readAll(repository, large.descriptor, 1e7)).byteLength).toBe(3_000_000)
        expect(failures(events)).toBe(1)
      },
    )
  })

  it('does not get the credentials of the registry', async () => {
    const headers: unknown[] = []
    const asked: string[] = []
    await withMirror(
      (request, response) => {
        headers.push(request.headers.authorization)
        response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end()
      },
      async (repository, { origin }) => {
        await repository.resolve('1')
        expect(headers).toEqual([undefined])
        expect(asked).toHaveLength(1)
        expect(asked).not.toContain(origin)
      },
      {
        credentials: async ({ registry }) => {
          asked.push(registry)
          return undefined
        },
      },
    )
  })

  it('for digests only is not asked for tags, and the other way round', async () => {
    for (const pull of ['digest', 'tag'] as const) {
      const urls: string[] = []
      await withMirror(
        (request, response) => {
          urls.push(request.url ?? '')
          response.writeHead(404).end()
        },
        async (repository) => {
          await repository.resolve('1')
          await readAll(repository, layer.descriptor, 1e6)
          expect(urls.some((url) => url.endsWith('/manifests/1'))).toBe(pull === 'tag')
          expect(urls.some((url) => url.includes('/blobs/'))).toBe(pull === 'digest')
        },
        {},
        { pull },
      )
    }
  })

  it('is told which registry it stands for when that is wanted', async () => {
    const urls: string[] = []
    await withMirror(
      (request, response) => {
        urls.push(request.url ?? '')
        response.writeHead(404).end()
      },
      async (repository, { origin }) => {
        await repository.resolve('1')
        expect(urls).toEqual([
          `/v2/hub/app/manifests/1?ns=${encodeURIComponent(origin.replace(/:\d+$/, ''))}${encodeURIComponent(origin.slice(origin.lastIndexOf(':')))}`,
        ])
      },
      {},
      { ns: true },
    )
  })

  it('that never answers is waited for once, and then left alone for a while', async () => {
    let asked = 0
    await withMirror(
      () => {
        asked++
      },
      async (repository, { events }) => {
        await pull(repository)
        await readAll(repository, large.descriptor, 1e7)
        expect(asked).toBe(1)
        expect(failures(events)).toBe(1)
        expect(events.some(({ kind }) => kind === 'retry')).toBe(false)
      },
      { timeouts: { headers: '150ms' } },
    )
  })

  it('does not hide what the registry says when nobody has it', async () => {
    await withMirror(
      (_, response) => void response.writeHead(500).end(),
      async (repository) => {
        await expect(repository.resolve('2')).rejects.toThrow(NotFoundError)
      },
    )
  })
})

describe('a tag', () => {
  it('that many ask for at the same time is requested once', async () => {
    await using server = await startServer((_, response) => {
      const { mediaType, digest, size } = manifest.descriptor
      response
        .writeHead(200, { 'content-type': mediaType, 'docker-content-digest': digest, 'content-length': size })
        .end()
    })
    const repository = createRegistryClient({ credentials: anonymous }).repository(`${server.host}/app`)
    await Promise.all(Array.from({ length: 20 }, () => repository.resolve('1')))
    expect(server.seen).toHaveLength(1)
  })
})
