import { credentialOf, field, readAuthFile, text } from './auth-file.ts'
import { type CredentialPlace, type CredentialProvider, lookupCredentials } from './credential.ts'
import { askHelper } from './credential-helper.ts'

/** Where the file of podman, buildah and skopeo is looked for. */
export interface ContainersAuthOptions {
  /**
   * Path of the file; default `$REGISTRY_AUTH_FILE`, else `$XDG_RUNTIME_DIR/containers/auth.json` (or
   * `/run/containers/<uid>/auth.json`), and after it `$XDG_CONFIG_HOME/containers/auth.json`.
   */
  readonly path?: string | undefined
  /** Whether helper programs that it names (`credHelpers`) are run; default true. */
  readonly helpers?: boolean | undefined
}

/**
 * Credentials that `podman login` has left (containers-auth.json(5)). An entry may be for a registry,
 * a namespace or one repository: the longest that is a prefix of `host/repository` counts.
 * @throws InvalidArgumentError, when called, for a file that is no JSON object; CredentialError when a
 * helper fails.
 */
export function containersAuthCredentials(options: ContainersAuthOptions = {}): CredentialProvider {
  return lookupCredentials(async function* ({ registry, repository, signal }) {
    for (const path of options.path === undefined ? await defaultPaths() : [options.path]) {
      const config = await readAuthFile(path, signal)
      const host = registry.toLowerCase()
      const helper = options.helpers === false ? '' : text(field(config, 'credHelpers'), host)
      if (helper !== '') {
        const detail = `credHelpers in ${path} names it for ${host}`
        yield { source: `docker-credential-${helper}`, detail, find: () => askHelper(helper, host, signal) }
      }
      yield authsPlace(path, config, `${host}/${repository}`)
    }
  })
}

function authsPlace(path: string, config: unknown, name: string): CredentialPlace {
  const auths = field(config, 'auths')
  const key = prefixes(name).find((prefix) => field(auths, prefix) !== undefined)
  const found = key === undefined ? `has no entry for ${name}` : `has the entry ${key}`
  const detail = config === undefined ? 'there is no such file' : found
  return {
    source: path,
    detail,
    find: async () => (key === undefined ? undefined : credentialOf(field(auths, key), path)),
  }
}

/** `host/a/b`, `host/a`, `host`. Docker Hub is called by its legacy names, too. */
function prefixes(name: string): string[] {
  const parts = name.split('/').filter((part) => part !== '')
  const list = parts.map((_, index) => parts.slice(0, parts.length - index).join('/'))
  return parts[0] === 'docker.io' ? [...list, 'https://index.docker.io/v1/', 'index.docker.io'] : list
}

async function defaultPaths(): Promise<string[]> {
  const { join } = await import('node:path')
  const { homedir, userInfo } = await import('node:os')
  const { REGISTRY_AUTH_FILE, XDG_RUNTIME_DIR, XDG_CONFIG_HOME } = process.env
  if (REGISTRY_AUTH_FILE) return [REGISTRY_AUTH_FILE]
  const runtime = XDG_RUNTIME_DIR || `/run/containers/${userInfo().uid}`
  const first = XDG_RUNTIME_DIR ? join(runtime, 'containers', 'auth.json') : join(runtime, 'auth.json')
  return [first, join(XDG_CONFIG_HOME || join(homedir(), '.config'), 'containers', 'auth.json')]
}
