import { randomUUID } from 'node:crypto'
import { InvalidArgumentError } from '../../errors.ts'
import { isJsonObject } from '../../internal/json.ts'
import { field, findByHost, hostOfKey, readAuthFile, text } from './auth-file.ts'
import type { Credential } from './credential.ts'
import { eraseFromHelper, storeInHelper } from './credential-helper.ts'
import { type DockerConfigOptions, defaultConfigPath, hubServer } from './docker-config.ts'

/** Where a credential has been kept. */
export interface KeptCredential {
  /** The file, or the helper program. */
  readonly place: string
}

/**
 * Keeps a credential where `docker login` does, and where this library, Docker and podman find it: with the
 * helper that Docker's config.json names, else in the file, which only its owner can read but which is
 * not encrypted. It is not tried out: `RegistryClient.ping` does that.
 * @throws InvalidArgumentError when the file can't be read or is none; CredentialError when a helper fails.
 */
export async function saveCredential(
  registry: string,
  credential: Credential,
  options: DockerConfigOptions = {},
): Promise<KeptCredential> {
  if (credential.kind === 'password' && credential.username.includes(':')) {
    throw new InvalidArgumentError(`the user name for ${registry} contains a colon`, { subject: registry })
  }
  const { path, config, helper, key } = await placeOf(registry, options)
  if (helper !== undefined) {
    await storeInHelper(helper, key, credential, undefined)
    return { place: `docker-credential-${helper}` }
  }
  const auths = isJsonObject(config.auths) ? config.auths : {}
  await writeConfig(path, { ...config, auths: { ...auths, [key]: entryOf(credential) } })
  return { place: path }
}

/**
 * Removes the credential for a registry from where {@link saveCredential} keeps it. Returns that place;
 * undefined when there was none.
 */
export async function removeCredential(
  registry: string,
  options: DockerConfigOptions = {},
): Promise<string | undefined> {
  const { path, config, helper, key } = await placeOf(registry, options)
  const erased = helper !== undefined && (await eraseFromHelper(helper, key, undefined))
  const host = hostOfKey(registry.toLowerCase())
  const entries = Object.entries(isJsonObject(config.auths) ? config.auths : {})
  const others = entries.filter(([each]) => hostOfKey(each) !== host)
  if (others.length < entries.length) {
    await writeConfig(path, { ...config, auths: Object.fromEntries(others) })
    return path
  }
  return erased ? `docker-credential-${helper}` : undefined
}

async function placeOf(
  registry: string,
  options: DockerConfigOptions,
): Promise<{
  readonly path: string
  readonly config: Readonly<Record<string, unknown>>
  readonly helper: string | undefined
  readonly key: string
}> {
  const path = options.path ?? (await defaultConfigPath())
  const config = (await readAuthFile(path, undefined)) ?? {}
  if (!isJsonObject(config)) throw new InvalidArgumentError(`${path} is no JSON object`, { subject: path })
  const host = registry.toLowerCase()
  if (hostOfKey(host) === undefined) {
    throw new InvalidArgumentError(`${JSON.stringify(registry)} is not a registry's host[:port]`, { subject: registry })
  }
  const own = findByHost(field(config, 'credHelpers'), host)?.[1]
  const named = typeof own === 'string' ? own : text(config, 'credsStore')
  const helper = options.helpers === false || named === '' ? undefined : named
  return { path, config, helper, key: hostOfKey(host) === 'docker.io' ? hubServer : host }
}

function entryOf(credential: Credential): Readonly<Record<string, string>> {
  switch (credential.kind) {
    case 'password':
      return { auth: Buffer.from(`${credential.username}:${credential.password}`, 'utf8').toString('base64') }
    case 'identity':
      return { identitytoken: credential.token }
    default:
      return { registrytoken: credential.token }
  }
}

/** Seen whole or not at all, and by its owner only; a link stays one. */
async function writeConfig(path: string, config: object): Promise<void> {
  const { mkdir, open, realpath, rename, rm } = await import('node:fs/promises')
  const { dirname } = await import('node:path')
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const real = await realpath(path).catch(() => path)
  const temporary = `${real}.${randomUUID()}.tmp`
  try {
    const file = await open(temporary, 'wx', 0o600)
    try {
      await file.writeFile(`${JSON.stringify(config, undefined, '\t')}\n`)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, real)
  } finally {
    await rm(temporary, { force: true })
  }
}
