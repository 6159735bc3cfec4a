import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { createRegistryClient } from '../distribution/index.ts'
import { InvalidArgumentError } from '../index.ts'
import {
  cacheStorage,
  createRegistryServer,
  diskStorage,
  memoryStorage,
  type RegistryServerOptions,
  type RegistryStorage,
  tokenAuth,
} from '../registry/index.ts'

const usage = [
  'Usage: oci-ts registry [options]',
  '',
  'Runs a registry until it is interrupted.',
  '',
  'Options:',
  '  -d, --dir DIR          Directory for the content. Default: memory',
  '  -p, --port PORT        Port to listen on. Default: 5000',
  '      --host ADDRESS     Address to listen on. Default: 127.0.0.1',
  '      --read-only        Refuse pushes and deletions',
  '      --upstream URL     Be a cache in front of this registry: https://registry.example, docker.io',
  '      --max-size SIZE    Most that is kept: a quota, or for a cache the size at which old blobs go',
  '      --tls-cert FILE    Certificate in PEM form',
  '      --tls-key FILE     Its key',
  '      --client-ca FILE   Authority whose certificates clients must have',
  '      --users FILE       JSON object of passwords by user name; everybody else is refused',
  '      --sparse           Take indexes of which not all platforms are there',
  '  -h, --help             Print this',
  '',
].join('\n')

/** `oci-ts registry`. Resolves when the server has been interrupted and is closed. */
export async function registryCommand(args: readonly string[]): Promise<string> {
  const text = { type: 'string' } as const
  const flag = { type: 'boolean' } as const
  const { values } = parseArgs({
    args: [...args],
    options: {
      dir: { type: 'string', short: 'd' },
      port: { type: 'string', short: 'p', default: '5000' },
      host: { type: 'string', default: '127.0.0.1' },
      upstream: text,
      'max-size': text,
      'tls-cert': text,
      'tls-key': text,
      'client-ca': text,
      users: text,
      'read-only': flag,
      sparse: flag,
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help === true) return usage
  const size = values['max-size'] as `${number}m` | undefined
  const kept = values.dir === undefined ? memoryStorage() : diskStorage(resolve(values.dir))
  const cached = values.upstream !== undefined
  const options: RegistryServerOptions = {
    storage: values.upstream === undefined ? kept : cache(values.upstream, kept, size),
    host: values.host,
    port: Number(values.port),
    readOnly: values['read-only'] ?? false,
    sparseManifests: values.sparse ?? false,
    quota: cached || size === undefined ? undefined : { total: size },
    auth: values.users === undefined ? undefined : tokenAuth({ users: await readUsers(values.users) }),
    tls: await readTls(values['tls-cert'], values['tls-key'], values['client-ca']),
    onError: (error) => report(error),
  }
  const registry = await createRegistryServer(options)
  process.stdout.write(`listening on ${registry.url}\n`)
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
  await registry.close()
  return ''
}

function cache(upstream: string, storage: RegistryStorage, maxSize: `${number}m` | undefined): RegistryStorage {
  const plain = upstream.startsWith('http://')
  const registry = upstream.replace(/^https?:\/\//, '').replace(/\/+$/, '')
  if (registry === '' || /[/?#@]/.test(registry)) {
    throw new InvalidArgumentError('--upstream must be a registry, without a path', { subject: upstream })
  }
  const client = createRegistryClient(plain ? { insecure: [registry] } : {})
  return cacheStorage({
    upstream: (name) => client.repository(`${registry}/${name}`),
    storage,
    maxSize,
    onError: report,
  })
}

async function readTls(
  cert: string | undefined,
  key: string | undefined,
  clientCa: string | undefined,
): Promise<RegistryServerOptions['tls']> {
  if (cert === undefined && key === undefined && clientCa === undefined) return undefined
  if (cert === undefined || key === undefined) {
    throw new InvalidArgumentError('--tls-cert and --tls-key go together', { subject: '--tls-cert' })
  }
  const authority = clientCa === undefined ? undefined : await readFile(clientCa)
  return { cert: await readFile(cert), key: await readFile(key), clientCa: authority }
}

async function readUsers(file: string): Promise<Record<string, string>> {
  const users: unknown = JSON.parse(await readFile(file, 'utf8'))
  const good = typeof users === 'object' && users !== null && Object.values(users).every((p) => typeof p === 'string')
  if (good && !Array.isArray(users)) return users as Record<string, string>
  throw new InvalidArgumentError(`${file} must be a JSON object of passwords by user name`, { subject: '--users' })
}

function report(error: unknown): void {
  process.stderr.write(`oci-ts: ${error instanceof Error ? error.message : String(error)}\n`)
}
