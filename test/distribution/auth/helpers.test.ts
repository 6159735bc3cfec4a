import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import {
  type Credential,
  type CredentialProvider,
  containersAuthCredentials,
  createRegistryClient,
  dockerConfigCredentials,
  firstCredential,
  staticCredentials,
} from '../../../src/distribution/index.ts'
import { CredentialError } from '../../../src/errors.ts'
import { temporaryDirectory } from '../support/images.ts'

let directory: Awaited<ReturnType<typeof temporaryDirectory>>
beforeAll(async () => {
  directory = await temporaryDirectory()
  await program('mock', 'read server; echo "{\\"Username\\":\\"me\\",\\"Secret\\":\\"for $server\\"}"')
  await program('token', 'cat > /dev/null; echo "{\\"Username\\":\\"<token>\\",\\"Secret\\":\\"refresh\\"}"')
  await program('empty', 'echo "credentials not found in native keychain"; exit 1')
  await program('broken', 'echo "keychain https://u:p@h/?a=secret is locked"; exit 2')
  await program('garbage', 'echo "no json: secret"')
  await program('flood', 'while :; do echo 0123456789012345678901234567890123456789; done')
  await program('slow', 'exec sleep 60')
})
afterAll(() => directory?.[Symbol.asyncDispose]())
afterEach(() => {
  vi.unstubAllEnvs()
})

async function program(name: string, script: string): Promise<void> {
  const path = join(directory.path, `docker-credential-${name}`)
  await writeFile(path, `#!/bin/sh\n${script}\n`)
  await chmod(path, 0o755)
}

async function file(content: unknown): Promise<string> {
  const path = join(directory.path, `${Math.random()}.json`)
  await writeFile(path, JSON.stringify(content))
  return path
}

function ask(
  provider: CredentialProvider,
  registry = 'a.test',
  repository = 'app',
  signal?: AbortSignal,
): Promise<Credential | undefined> {
  vi.stubEnv('PATH', `${directory.path}:/usr/bin:/bin`)
  return provider({ registry, origin: `https://${registry}`, repository, signal })
}

const docker = async (config: unknown): Promise<CredentialProvider> =>
  dockerConfigCredentials({ path: await file(config) })

describe("a helper in Docker's configuration", () => {
  it('is asked for the registry it is named for, and one for all registries for the others', async () => {
    const provider = await docker({ credHelpers: { 'a.test': 'mock' }, credsStore: 'token' })
    expect(await ask(provider)).toEqual({ kind: 'password', username: 'me', password: 'for a.test' })
    expect(await ask(provider, 'b.test')).toEqual({ kind: 'identity', token: 'refresh' })
  })

  it('knows Docker Hub by the name that Docker gives it', async () => {
    const provider = await docker({ credsStore: 'mock' })
    expect(await ask(provider, 'docker.io')).toMatchObject({ password: 'for https://index.docker.io/v1/' })
  })

  it('that has nothing leaves it to the entries of the file', async () => {
    const auth = btoa('me:secret')
    const provider = await docker({ credsStore: 'empty', auths: { 'a.test': { auth } } })
    expect(await ask(provider)).toMatchObject({ password: 'secret' })
    expect(await ask(provider, 'b.test')).toBeUndefined()
  })

  it('that is missing, fails, answers nonsense or without end is an error without secrets', async () => {
    for (const name of ['none', 'broken', 'garbage', 'flood', '../mock', '']) {
      const provider = await docker({ credHelpers: { 'a.test': name } })
      const error = await ask(provider).catch((e: unknown) => e)
      expect(error).toBeInstanceOf(CredentialError)
      expect(error).toMatchObject({ code: 'ERR_OCI_CREDENTIAL' })
      expect(String(error)).not.toContain('secret')
    }
  })

  it('that does not answer is given up when the caller gives up', async () => {
    const controller = new AbortController()
    const reason = new Error('enough')
    setTimeout(() => controller.abort(reason), 50)
    await expect(ask(await docker({ credsStore: 'slow' }), 'a.test', 'app', controller.signal)).rejects.toBe(reason)
  })

  it('is not run when that is not wanted', async () => {
    const provider = dockerConfigCredentials({ path: await file({ credsStore: 'mock' }), helpers: false })
    expect(await ask(provider)).toBeUndefined()
  })
})

describe("podman's auth.json", () => {
  const auth = (name: string): { readonly auth: string } => ({ auth: btoa(`${name}:secret`) })

  it('has credentials by registry, namespace and repository, of which the longest counts', async () => {
    const auths = { 'a.test': auth('host'), 'a.test/team': auth('team'), 'a.test/team/app': auth('app') }
    const provider = containersAuthCredentials({ path: await file({ auths }) })
    const user = async (repository: string): Promise<unknown> => ask(provider, 'a.test', repository)
    expect(await user('team/app')).toMatchObject({ username: 'app' })
    expect(await user('team/app2')).toMatchObject({ username: 'team' })
    expect(await user('team/app/sub')).toMatchObject({ username: 'app' })
    expect(await user('teams/app')).toMatchObject({ username: 'host' })
    expect(await ask(provider, 'b.test')).toBeUndefined()
  })

  it('is found by REGISTRY_AUTH_FILE, by XDG_RUNTIME_DIR and by XDG_CONFIG_HOME', async () => {
    const home = join(directory.path, 'xdg')
    await mkdir(join(home, 'containers'), { recursive: true })
    await writeFile(join(home, 'containers', 'auth.json'), JSON.stringify({ auths: { 'a.test': auth('xdg') } }))
    const provider = containersAuthCredentials()
    vi.stubEnv('REGISTRY_AUTH_FILE', await file({ auths: { 'a.test': auth('named') } }))
    expect(await ask(provider)).toMatchObject({ username: 'named' })
    vi.stubEnv('REGISTRY_AUTH_FILE', '')
    for (const name of ['XDG_RUNTIME_DIR', 'XDG_CONFIG_HOME']) {
      vi.stubEnv('XDG_RUNTIME_DIR', '/nonexistent')
      vi.stubEnv('XDG_CONFIG_HOME', '/nonexistent')
      vi.stubEnv(name, home)
      expect(await ask(provider)).toMatchObject({ username: 'xdg' })
    }
  })

  it('may name helpers', async () => {
    const provider = containersAuthCredentials({ path: await file({ credHelpers: { 'a.test': 'mock' } }) })
    expect(await ask(provider)).toMatchObject({ password: 'for a.test' })
  })
})

describe('explainAuth', () => {
  it('tells every place in order, which one won and why, without the secret', async () => {
    vi.stubEnv('PATH', `${directory.path}:/usr/bin:/bin`)
    const path = await file({
      credHelpers: { 'a.test': 'empty' },
      auths: { 'https://a.test/v2/': { auth: btoa('me:secret') } },
    })
    const credentials = firstCredential(
      dockerConfigCredentials({ path: '/nonexistent/config.json' }),
      dockerConfigCredentials({ path }),
      staticCredentials({ 'a.test': { kind: 'bearer', token: 'secret' } }),
    )
    const explanation = await createRegistryClient({ credentials }).explainAuth('a.test/team/app:1')
    expect(explanation).toEqual({
      registry: 'a.test',
      repository: 'team/app',
      origin: 'https://a.test',
      findings: [
        { source: '/nonexistent/config.json', outcome: 'none', detail: 'there is no such file' },
        { source: 'docker-credential-empty', outcome: 'none', detail: `credHelpers names it for a.test in ${path}` },
        { source: path, outcome: 'used', detail: 'has the entry https://a.test/v2/: password of me' },
        { source: 'staticCredentials', outcome: 'unused', detail: 'has one for a.test: a bearer token' },
      ],
      used: expect.objectContaining({ source: path }),
    })
    expect(JSON.stringify(explanation)).not.toContain('secret')
  })

  it('tells what can not be used', async () => {
    vi.stubEnv('PATH', `${directory.path}:/usr/bin:/bin`)
    const client = createRegistryClient({ credentials: await docker({ credsStore: 'none' }) })
    const { findings, used } = await client.explainAuth('a.test/app')
    expect(findings).toMatchObject([{ outcome: 'error', detail: expect.stringContaining('no such program') }])
    expect(used).toBeUndefined()
  })
})
