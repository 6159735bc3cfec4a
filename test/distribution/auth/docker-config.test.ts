import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { type Credential, dockerConfigCredentials } from '../../../src/distribution/index.ts'
import { InvalidArgumentError } from '../../../src/errors.ts'
import { temporaryDirectory } from '../support/images.ts'

/** What a configuration with this text holds for a registry. */
async function find(text: string, registry: string): Promise<Credential | undefined> {
  await using directory = await temporaryDirectory()
  const path = join(directory.path, 'config.json')
  await writeFile(path, text)
  return await dockerConfigCredentials({ path })({ registry, origin: `https://${registry}`, repository: 'a' })
}

const auth = (user: string): object => ({ auth: btoa(`${user}:pass:word`) })
const findUser = async (auths: object, registry: string): Promise<string | undefined> => {
  const credential = await find(JSON.stringify({ auths }), registry)
  return credential?.kind === 'password' ? credential.username : undefined
}

describe("Docker's configuration", () => {
  it('has a user and a password in `auth`, of which the password may have colons', async () => {
    const auths = { 'ghcr.io': auth('me') }
    expect(await find(JSON.stringify({ auths }), 'ghcr.io')).toEqual({
      kind: 'password',
      username: 'me',
      password: 'pass:word',
    })
  })

  it('may have them in plain text', async () => {
    const auths = { 'ghcr.io': { username: 'me', password: 'secret' } }
    expect(await find(JSON.stringify({ auths }), 'ghcr.io')).toMatchObject({ username: 'me', password: 'secret' })
  })

  it('may have an identity token, or a token for the registry itself', async () => {
    const auths = { 'a.test': { ...auth('me'), identitytoken: 'i' }, 'b.test': { registrytoken: 'r' } }
    expect(await find(JSON.stringify({ auths }), 'a.test')).toEqual({ kind: 'identity', token: 'i' })
    expect(await find(JSON.stringify({ auths }), 'b.test')).toEqual({ kind: 'bearer', token: 'r' })
  })

  it('knows Docker Hub by each of its names', async () => {
    for (const key of [
      'https://index.docker.io/v1/',
      'index.docker.io',
      'docker.io',
      'https://registry-1.docker.io/v2/',
    ]) {
      expect(await findUser({ [key]: auth('me') }, 'docker.io'), key).toBe('me')
    }
  })

  it('names a registry by its host, with or without scheme, version and default port', async () => {
    for (const key of [
      'a.test',
      'https://a.test',
      'http://a.test/',
      'https://A.test/v1/',
      'https://a.test/v2',
      'a.test:443',
    ]) {
      expect(await findUser({ [key]: auth('me') }, 'a.test'), key).toBe('me')
    }
  })

  it('prefers the entry that names the registry exactly', async () => {
    expect(await findUser({ 'https://a.test/v1/': auth('old'), 'a.test': auth('new') }, 'a.test')).toBe('new')
  })

  it('has nothing for another port, a longer name or a namespace', async () => {
    for (const key of ['a.test:5000', 'a.test.evil.test', 'evil-a.test', 'a.test/team', 'https://a.test@evil.test']) {
      expect(await findUser({ [key]: auth('me') }, 'a.test'), key).toBeUndefined()
    }
  })

  it('has nothing where an entry is empty, or where there is no file', async () => {
    expect(await find('{"auths":{"a.test":{}}}', 'a.test')).toBeUndefined()
    expect(await find('{}', 'a.test')).toBeUndefined()
    const nowhere = dockerConfigCredentials({ path: '/nonexistent/config.json' })
    expect(await nowhere({ registry: 'a.test', origin: 'https://a.test', repository: 'a' })).toBeUndefined()
  })

  it('that is malformed is refused, without a word of its content', async () => {
    for (const text of ['{"auths":{"a.test":{"auth":"c2VjcmV0"', '{"auths":{"a.test":{"auth":"c2VjcmV0"}}}']) {
      const error = await find(text, 'a.test').catch((e: unknown) => e)
      expect(error).toBeInstanceOf(InvalidArgumentError)
      expect(String(error)).not.toMatch(/c2VjcmV0|secret/)
    }
  })
})
