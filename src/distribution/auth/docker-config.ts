import { credentialOf, field, findByHost, hostOfKey, readAuthFile, text } from './auth-file.ts'
import { type CredentialPlace, type CredentialProvider, lookupCredentials } from './credential.ts'
import { askHelper } from './credential-helper.ts'

/** Where Docker's configuration is looked for. */
export interface DockerConfigOptions {
  /** Path of the file; default `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`. */
  readonly path?: string | undefined
  /** Whether helper programs that it names (`credHelpers`, `credsStore`) are run; default true. */
  readonly helpers?: boolean | undefined
}

/**
 * Credentials that `docker login` has left: of the helper that Docker's config.json names for the
 * registry (`credHelpers`), else of the one for all registries (`credsStore`), else of its `auths`.
 * The file is read each time a credential is asked for; one that does not exist holds none.
 *
 * Entries are found by host, in any of the spellings Docker has used: `ghcr.io`, `https://ghcr.io`,
 * `https://index.docker.io/v1/`.
 * @throws InvalidArgumentError, when called, for a file that is no JSON object; CredentialError when a
 * helper fails.
 */
export function dockerConfigCredentials(options: DockerConfigOptions = {}): CredentialProvider {
  return lookupCredentials(async function* ({ registry, signal }) {
    const path = options.path ?? (await defaultConfigPath())
    const config = await readAuthFile(path, signal)
    const host = registry.toLowerCase()
    if (options.helpers !== false) {
      const own = findByHost(field(config, 'credHelpers'), host)
      if (typeof own?.[1] === 'string')
        yield helperPlace(path, own[1], `credHelpers names it for ${own[0]}`, host, signal)
      const store = text(config, 'credsStore')
      if (store !== '') yield helperPlace(path, store, 'credsStore names it', host, signal)
    }
    yield authsPlace(path, config, host)
  })
}

/** Where Docker's configuration is when nobody says. */
export async function defaultConfigPath(): Promise<string> {
  const { join } = await import('node:path')
  const { homedir } = await import('node:os')
  return join(process.env.DOCKER_CONFIG || join(homedir(), '.docker'), 'config.json')
}

function authsPlace(path: string, config: unknown, host: string): CredentialPlace {
  const entry = findByHost(field(config, 'auths'), host)
  const found = entry === undefined ? `has no entry for ${host}` : `has the entry ${entry[0]}`
  const detail = config === undefined ? 'there is no such file' : found
  return { source: path, detail, find: async () => credentialOf(entry?.[1], path) }
}

/** What helpers know Docker Hub by. */
export const hubServer = 'https://index.docker.io/v1/'

function helperPlace(
  path: string,
  name: string,
  detail: string,
  host: string,
  signal: AbortSignal | undefined,
): CredentialPlace {
  const server = hostOfKey(host) === 'docker.io' ? hubServer : host
  return {
    source: `docker-credential-${name}`,
    detail: `${detail} in ${path}`,
    find: () => askHelper(name, server, signal),
  }
}
