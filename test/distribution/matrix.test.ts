import { execFileSync } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { copy } from '../../src/content/copy.ts'
import { MemoryStore } from '../../src/content/memory.ts'
import {
  anonymous,
  createRegistryClient,
  openRepository,
  type RegistryClientOptions,
  staticCredentials,
} from '../../src/distribution/index.ts'
import {
  basicAuth,
  cacheStorage,
  createRegistryServer,
  memoryStorage,
  type RegistryServerOptions,
  tokenAuth,
} from '../../src/registry/index.ts'
import { type Certificates, makeCertificates } from './support/certificates.ts'
import { type DockerRegistryOptions, hasProgram, startDockerRegistry } from './support/docker-registry.ts'
import { all, image, randomLayer, temporaryDirectory } from './support/images.ts'
import type { TestRegistry } from './support/registries.ts'
import { startTokenServer, type TokenServer } from './support/token-server.ts'

const missing = ['docker-registry', 'openssl', 'htpasswd'].filter((program) => !hasProgram(program))

/** What the registries share, made once. */
interface Ground {
  readonly directory: string
  readonly certificates: Certificates
  readonly tokens: TokenServer
}

interface Row {
  readonly name: string
  readonly embedded: (ground: Ground) => RegistryServerOptions
  readonly docker: (
    ground: Ground,
  ) => readonly [auth?: Parameters<typeof startDockerRegistry>[0], more?: DockerRegistryOptions]
  readonly client: (ground: Ground, host: string) => RegistryClientOptions
  /** Options with which the registry must refuse to serve. */
  readonly refused?: (ground: Ground, host: string) => RegistryClientOptions
}

const login = (host: string, password = 'secret'): RegistryClientOptions => ({
  credentials: staticCredentials({ [host]: { kind: 'password', username: 'user', password } }),
})
const users = { user: 'secret' }
const secure = { credentials: anonymous, insecure: false } as const
const serverFiles = ({ certificates }: Ground) => ({
  certificate: certificates.path('server.crt'),
  key: certificates.path('server.key'),
})

const rows: readonly Row[] = [
  {
    name: 'plain',
    embedded: () => ({}),
    docker: () => [],
    client: () => ({ credentials: anonymous }),
  },
  {
    name: 'htpasswd',
    embedded: () => ({ auth: basicAuth({ users }) }),
    docker: ({ directory }) => [{ htpasswd: { realm: 'test', path: join(directory, 'htpasswd') } }],
    client: (_, host) => login(host),
    refused: (_, host) => login(host, 'wrong'),
  },
  {
    name: 'token',
    embedded: () => ({ auth: tokenAuth({ users }), authorize: ({ user }) => user !== undefined }),
    docker: ({ tokens }) => [tokens.auth],
    client: (_, host) => login(host),
    refused: (_, host) => login(host, 'wrong'),
  },
  {
    name: 'TLS with a private authority',
    embedded: ({ certificates }) => ({ tls: certificates.server }),
    docker: (ground) => [undefined, { tls: serverFiles(ground) }],
    client: ({ certificates }, host) => ({ ...secure, tls: { [host]: { ca: certificates.ca } } }),
    refused: () => secure,
  },
  {
    name: 'mutual TLS',
    embedded: ({ certificates }) => ({ tls: { ...certificates.server, clientCa: certificates.ca } }),
    docker: (ground) => [
      undefined,
      { tls: { ...serverFiles(ground), clientcas: [ground.certificates.path('ca.crt')] } },
    ],
    client: ({ certificates }, host) => ({
      ...secure,
      tls: { [host]: { ca: certificates.ca, ...certificates.client } },
    }),
    refused: ({ certificates }, host) => ({ ...secure, tls: { [host]: { ca: certificates.ca } } }),
  },
]

describe.skipIf(missing.length > 0)('the client with a registry (needs docker-registry, openssl, htpasswd)', () => {
  let temporary: Awaited<ReturnType<typeof temporaryDirectory>>
  let ground: Ground
  beforeAll(async () => {
    temporary = await temporaryDirectory()
    const directory = temporary.path
    await writeFile(join(directory, 'htpasswd'), execFileSync('htpasswd', ['-Bbn', '-C', '5', 'user', 'secret']))
    ground = { directory, certificates: await makeCertificates(directory), tokens: await startTokenServer(directory) }
  })
  afterAll(async () => {
    await ground?.tokens[Symbol.asyncDispose]()
    await temporary?.[Symbol.asyncDispose]()
  })

  describe.each(rows)('$name', (row) => {
    it.each([
      ['embedded', (): Promise<TestRegistry> => createRegistryServer(row.embedded(ground))],
      ['docker-registry', (): Promise<TestRegistry> => startDockerRegistry(...row.docker(ground))],
    ] as const)('%s: pushes, lists, mounts and pulls', async (_, start) => {
      await using registry = await start()
      const options = row.client(ground, registry.host)
      const open = (name: string) => openRepository(`${registry.host}/${name}`, options)
      const layer = randomLayer(500_000)
      const { config, manifest } = image(layer)
      for (const { descriptor, bytes } of [layer, config, manifest]) await open('team/app').push(descriptor, bytes)
      await open('team/app').tag(manifest.descriptor, 'v1')
      expect(await all(open('team/app').tags())).toEqual(['v1'])
      expect(await open('team/other').mount(layer.descriptor, open('team/app'))).toBe(true)
      const store = new MemoryStore()
      expect(await copy(open('team/app'), 'v1', store)).toEqual(manifest.descriptor)
      expect(await store.exists(layer.descriptor)).toBe(true)
      if (row.refused !== undefined) {
        const stranger = openRepository(`${registry.host}/team/app`, {
          ...row.refused(ground, registry.host),
          retry: { attempts: 1 },
        })
        await expect(stranger.push(config.descriptor, config.bytes)).rejects.toMatchObject({
          code: expect.stringMatching(/^ERR_OCI_(REGISTRY|NETWORK)$/),
        })
      }
    })
  })

  it.each([
    [
      'docker-registry',
      (host: string): Promise<TestRegistry> =>
        startDockerRegistry(undefined, { proxy: { remoteurl: `http://${host}` } }),
    ],
    ['embedded', (host: string): Promise<TestRegistry> => createRegistryServer({ storage: cacheOf(host) })],
  ] as const)('pull-through proxy, %s: pulls again and again, and takes no push', async (name, start) => {
    await using upstream = await createRegistryServer()
    const source = openRepository(`${upstream.host}/team/app`, { credentials: anonymous })
    const layer = randomLayer(500_000)
    const { config, manifest } = image(layer)
    for (const { descriptor, bytes } of [layer, config]) await source.push(descriptor, bytes)
    await source.push(manifest.descriptor, manifest.bytes, { tags: ['v1'] })
    await using proxy = await start(upstream.host)
    const through = openRepository(`${proxy.host}/team/app`, { credentials: anonymous, retry: { attempts: 1 } })
    const pull = async (reference: string): Promise<void> => {
      const store = new MemoryStore()
      expect(await copy(through, reference, store)).toEqual(manifest.descriptor)
      expect(await store.exists(layer.descriptor)).toBe(true)
    }
    await pull('v1')
    const other = randomLayer(10)
    await expect(through.push(other.descriptor, other.bytes)).rejects.toMatchObject({ code: 'ERR_OCI_REGISTRY' })
    // docker-registry stores what it has passed on at some later time.
    if (name === 'embedded') await upstream.close()
    await pull(manifest.descriptor.digest)
  })
})

function cacheOf(host: string): ReturnType<typeof cacheStorage> {
  const client = createRegistryClient({ credentials: anonymous })
  return cacheStorage({ upstream: (name) => client.repository(`${host}/${name}`), storage: memoryStorage() })
}
