import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import {
  anonymous,
  type Credential,
  createRegistryClient,
  dockerConfigCredentials,
  openRepository,
  type RegistryEvent,
  type Repository,
  staticCredentials,
} from '../../src/distribution/index.ts'
import { RegistryError } from '../../src/errors.ts'
import { type DockerRegistry, hasProgram, startDockerRegistry } from './support/docker-registry.ts'
import { image, randomLayer, run, temporaryDirectory } from './support/images.ts'
import { startTokenServer, type TokenServer } from './support/token-server.ts'

const missing = ['docker-registry', 'htpasswd', 'openssl', 'skopeo'].filter((program) => !hasProgram(program))
const password: Credential = { kind: 'password', username: 'user', password: 'secret' }
const wrong: Credential = { kind: 'password', username: 'user', password: 'wrong' }

/** Pushes an image of one layer as `1` and resolves it. */
async function pushAndResolve(repository: Repository): Promise<void> {
  const layer = randomLayer(1000)
  const { config, manifest } = image(layer)
  for (const { descriptor, bytes } of [layer, config, manifest]) await repository.push(descriptor, bytes)
  await repository.tag(manifest.descriptor, '1')
  expect(await repository.resolve('1')).toEqual(manifest.descriptor)
}

describe.skipIf(missing.length > 0)('docker-registry with Basic (needs docker-registry, htpasswd)', () => {
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>
  let registry: DockerRegistry
  beforeAll(async () => {
    directory = await temporaryDirectory()
    const path = join(directory.path, 'htpasswd')
    await run('htpasswd', ['-B', '-b', '-c', path, 'user', 'secret'])
    registry = await startDockerRegistry({ htpasswd: { realm: 'test', path } })
  })
  afterAll(async () => {
    await registry?.[Symbol.asyncDispose]()
    await directory?.[Symbol.asyncDispose]()
  })

  it('pushes and pulls with a password', async () => {
    const credentials = staticCredentials({ [registry.host]: password })
    await pushAndResolve(openRepository(`${registry.host}/basic/app`, { credentials }))
  })

  it('finds the password in the configuration that DOCKER_CONFIG names', async () => {
    const auths = { [`http://${registry.host}/v1/`]: { auth: btoa('user:secret') } }
    await writeFile(join(directory.path, 'config.json'), JSON.stringify({ auths }))
    vi.stubEnv('DOCKER_CONFIG', directory.path)
    try {
      await pushAndResolve(openRepository(`${registry.host}/config/app`))
    } finally {
      vi.unstubAllEnvs()
    }
  })

  it('reads what skopeo login has written', async () => {
    const path = join(directory.path, 'login.json')
    const login = ['login', '--tls-verify=false', '--authfile', path, '-u', 'user', '-p', 'secret', registry.host]
    await run('skopeo', login)
    const credentials = dockerConfigCredentials({ path })
    await pushAndResolve(openRepository(`${registry.host}/login/app`, { credentials }))
  })

  it('ends with 401 and a hint when there is no password, or a wrong one', async () => {
    for (const credentials of [anonymous, staticCredentials({ [registry.host]: wrong })]) {
      const repository = openRepository(`${registry.host}/basic/app`, { credentials })
      const error = await repository.resolve('1').catch((e: unknown) => e)
      expect(error).toBeInstanceOf(RegistryError)
      expect(error).toMatchObject({ status: 401, hint: expect.stringContaining('docker login') })
      expect(String(error)).not.toContain('wrong')
    }
  })
})

describe.skipIf(missing.length > 0)('docker-registry with tokens (needs docker-registry, openssl)', () => {
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>
  let tokens: TokenServer
  let registry: DockerRegistry
  let first: number
  beforeAll(async () => {
    directory = await temporaryDirectory()
    tokens = await startTokenServer(directory.path)
    registry = await startDockerRegistry(tokens.auth)
  })
  beforeEach(() => {
    first = tokens.calls.length
  })
  afterAll(async () => {
    await registry?.[Symbol.asyncDispose]()
    await tokens?.[Symbol.asyncDispose]()
    await directory?.[Symbol.asyncDispose]()
  })
  const open = (name: string, credential?: Credential): Repository => {
    const credentials = credential === undefined ? anonymous : staticCredentials({ [registry.host]: credential })
    return openRepository(`${registry.host}/${name}`, { credentials })
  }

  it('pushes with a password, and one token serves the whole push', async () => {
    await pushAndResolve(open('tokens/push', password))
    const calls = tokens.calls.slice(first)
    expect(calls).toHaveLength(1)
    expect(calls[0]?.scopes).toEqual(['repository:tokens/push:pull,push'])
  })

  it('pushes with an identity token, which goes by POST', async () => {
    await pushAndResolve(open('tokens/identity', { kind: 'identity', token: 'refresh' }))
    expect(tokens.calls.slice(first).map(({ method }) => method)).toEqual(['POST'])
  })

  it('pulls without credentials, and asks for one token however many requests wait', async () => {
    await pushAndResolve(open('tokens/pull', password))
    const before = tokens.calls.length
    const repository = open('tokens/pull')
    await Promise.all(Array.from({ length: 10 }, () => repository.resolve('1')))
    expect(tokens.calls.length - before).toBe(1)
    expect(tokens.calls.at(-1)).toMatchObject({ scopes: ['repository:tokens/pull:pull'], authorization: undefined })
  })

  it('may not push without credentials', async () => {
    const layer = randomLayer(10)
    await expect(open('tokens/anonymous').push(layer.descriptor, layer.bytes)).rejects.toMatchObject({ status: 401 })
  })

  it('fetches a new token when the old one is over', async () => {
    await pushAndResolve(open('tokens/expiry', password))
    const repository = open('tokens/expiry')
    tokens.lifetime = 1
    try {
      await repository.resolve('1')
      const before = tokens.calls.length
      const start = performance.now()
      while (tokens.calls.length === before && performance.now() - start < 10_000) await repository.resolve('1')
      expect(tokens.calls.length).toBe(before + 1)
    } finally {
      tokens.lifetime = 300
    }
  })

  it('pulls what is public although the password is out of date', async () => {
    await pushAndResolve(open('tokens/public', password))
    const events: RegistryEvent[] = []
    const client = createRegistryClient({
      credentials: staticCredentials({ [registry.host]: wrong }),
      onEvent: (event) => events.push(event),
    })
    await client.repository(`${registry.host}/tokens/public`).resolve('1')
    expect(events).toMatchObject([{ kind: 'credential-refused', registry: registry.host, error: { status: 401 } }])
  })

  it('tells that the token server refused the password', async () => {
    const layer = randomLayer(10)
    await expect(open('tokens/wrong', wrong).push(layer.descriptor, layer.bytes)).rejects.toMatchObject({
      status: 401,
      errors: [{ code: 'UNAUTHORIZED', message: 'wrong password' }],
      hint: expect.stringContaining('refused the stored credential'),
    })
  })
})
