import { chmod, lstat, mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { isPullOnly } from '../../../src/distribution/auth/scope.ts'
import {
  createRegistryClient,
  dockerConfigCredentials,
  removeCredential,
  saveCredential,
  staticCredentials,
} from '../../../src/distribution/index.ts'
import { CredentialError, InvalidArgumentError, RegistryError } from '../../../src/errors.ts'
import { createRegistryServer, tokenAuth } from '../../../src/registry/index.ts'
import { temporaryDirectory } from '../support/images.ts'

let directory: Awaited<ReturnType<typeof temporaryDirectory>>
beforeAll(async () => {
  directory = await temporaryDirectory()
})
afterAll(() => directory?.[Symbol.asyncDispose]())
afterEach(() => {
  vi.unstubAllEnvs()
})

const me = { kind: 'password', username: 'me', password: 'p:w' } as const
const request = { origin: 'https://x', repository: 'app' }
let count = 0
const newPath = (): string => join(directory.path, `${++count}`, 'config.json')

describe('saveCredential', () => {
  it('keeps it where it is found again, for its owner only, beside what else is there', async () => {
    const path = newPath()
    expect(await saveCredential('ghcr.io', me, { path })).toEqual({ place: path })
    await saveCredential('docker.io', { kind: 'identity', token: 'refresh' }, { path })
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    const find = dockerConfigCredentials({ path })
    expect(await find({ registry: 'ghcr.io', ...request })).toEqual(me)
    expect(await find({ registry: 'docker.io', ...request })).toEqual({ kind: 'identity', token: 'refresh' })
    expect(Object.keys(JSON.parse(await readFile(path, 'utf8')).auths)).toContain('https://index.docker.io/v1/')
    await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, 'utf8')), psFormat: 'x' }))
    expect(await removeCredential('index.docker.io', { path })).toBe(path)
    expect(await removeCredential('docker.io', { path })).toBeUndefined()
    expect(JSON.parse(await readFile(path, 'utf8'))).toMatchObject({ psFormat: 'x', auths: { 'ghcr.io': {} } })
  })

  it('writes through a link, which stays one', async () => {
    const [path, real] = [newPath(), newPath()]
    await mkdir(join(path, '..'))
    await mkdir(join(real, '..'))
    await writeFile(real, '{}')
    await symlink(real, path)
    await saveCredential('ghcr.io', me, { path })
    expect((await lstat(path)).isSymbolicLink()).toBe(true)
    expect(await dockerConfigCredentials({ path: real })({ registry: 'ghcr.io', ...request })).toEqual(me)
  })

  it('gives it to the helper that the file names', async () => {
    const bin = join(directory.path, 'bin')
    await mkdir(bin)
    const helper = join(bin, 'docker-credential-keeper')
    await writeFile(
      helper,
      `#!/bin/sh
case $1 in
store) cat > ${bin}/kept;;
get) read server; if [ -e ${bin}/kept ]; then cat ${bin}/kept; else echo credentials not found; exit 1; fi;;
erase) if [ -e ${bin}/kept ]; then rm ${bin}/kept; else echo credentials not found; exit 1; fi;;
esac\n`,
    )
    await chmod(helper, 0o755)
    vi.stubEnv('PATH', `${bin}:${process.env.PATH}`)
    const path = newPath()
    await mkdir(join(path, '..'))
    await writeFile(path, '{"credsStore":"keeper"}')
    const place = 'docker-credential-keeper'
    expect(await saveCredential('ghcr.io', me, { path })).toEqual({ place })
    expect(JSON.parse(await readFile(join(bin, 'kept'), 'utf8'))).toEqual({
      ServerURL: 'ghcr.io',
      Username: 'me',
      Secret: 'p:w',
    })
    expect(await dockerConfigCredentials({ path })({ registry: 'ghcr.io', ...request })).toEqual(me)
    expect(await readFile(path, 'utf8')).toBe('{"credsStore":"keeper"}')
    expect(await removeCredential('ghcr.io', { path })).toBe(place)
    expect(await removeCredential('ghcr.io', { path })).toBeUndefined()
    const bearer = { kind: 'bearer', token: 'x' } as const
    await expect(saveCredential('ghcr.io', bearer, { path })).rejects.toThrow(CredentialError)
  })

  it('refuses what can not be kept', async () => {
    const path = newPath()
    await expect(saveCredential('ghcr.io/org', me, { path })).rejects.toThrow(InvalidArgumentError)
    await expect(saveCredential('ghcr.io', { ...me, username: 'a:b' }, { path })).rejects.toThrow(/colon/)
    await mkdir(join(path, '..'))
    await writeFile(path, '[]')
    await expect(saveCredential('ghcr.io', me, { path })).rejects.toThrow(/no JSON object/)
  })
})

describe('ping', () => {
  it('tells whether a registry takes a credential; a wrong one is never left out instead', async () => {
    await using server = await createRegistryServer({ auth: tokenAuth({ users: { me: 'p:w' } }) })
    const ping = (password: string): Promise<void> => {
      const credentials = staticCredentials({ [server.host]: { ...me, password } })
      return createRegistryClient({ credentials }).ping(server.host)
    }
    await ping('p:w')
    await expect(ping('wrong')).rejects.toThrow(RegistryError)
    expect(isPullOnly([])).toBe(false)
  })
})
