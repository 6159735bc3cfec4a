import { InvalidArgumentError } from '../../errors.ts'
import type { TlsOptions, TlsProvider } from './tls.ts'

/** Where certificates are looked for. */
export interface CertificateDirectoryOptions {
  /**
   * Directories with a folder for each host; the first that has one counts. Default
   * `~/.config/containers/certs.d`, `/etc/containers/certs.d`, `~/.config/docker/certs.d`,
   * `/etc/docker/certs.d`.
   */
  readonly directories?: readonly string[] | undefined
}

/** Files of one folder, and bytes of one file. */
const maxFiles = 100
const maxFileSize = 1024 * 1024

/**
 * Certificates as Docker and podman have them in `certs.d/<host[:port]>/`: `*.crt` are trusted,
 * `*.cert` with the `*.key` of the same name are our own.
 * @throws InvalidArgumentError, when called, for a certificate without its key or a file that can't be read.
 */
export function certificateDirectories(options: CertificateDirectoryOptions = {}): TlsProvider {
  return async (host) => {
    // A host is part of a path here: nothing that could lead elsewhere.
    if (!/^[\w.:[\]-]{1,255}$/.test(host) || host.startsWith('.')) return undefined
    for (const directory of options.directories ?? (await defaultDirectories())) {
      const found = await readFolder(`${directory}/${host}`)
      if (found !== undefined) return found
    }
    return undefined
  }
}

async function defaultDirectories(): Promise<string[]> {
  const { join } = await import('node:path')
  const { homedir } = await import('node:os')
  const own = join(homedir(), '.config')
  return [own, '/etc'].flatMap((base) => ['containers', 'docker'].map((name) => join(base, name, 'certs.d')))
}

async function readFolder(folder: string): Promise<TlsOptions | undefined> {
  const { readdir } = await import('node:fs/promises')
  let names: string[]
  try {
    names = await readdir(folder)
  } catch (error) {
    const code: unknown = error instanceof Error ? Reflect.get(error, 'code') : undefined
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES') return undefined
    throw error
  }
  if (names.length > maxFiles)
    throw new InvalidArgumentError(`${folder} has more than ${maxFiles} files`, { subject: folder })
  const ca: string[] = []
  let own: Pick<TlsOptions, 'cert' | 'key'> = {}
  for (const name of names.sort()) {
    if (name.endsWith('.crt')) ca.push(await readPem(`${folder}/${name}`))
    if (!name.endsWith('.cert')) continue
    const key = name.replace(/cert$/, 'key')
    if (!names.includes(key))
      throw new InvalidArgumentError(`${folder}/${name} has no ${key} beside it`, { subject: folder })
    own = { cert: await readPem(`${folder}/${name}`), key: await readPem(`${folder}/${key}`) }
  }
  return { ca, ...own }
}

async function readPem(path: string): Promise<string> {
  const { readFile, stat } = await import('node:fs/promises')
  try {
    const { size } = await stat(path)
    if (size <= maxFileSize) return await readFile(path, 'utf8')
  } catch (cause) {
    throw new InvalidArgumentError(`${path} can't be read`, { subject: path, cause })
  }
  throw new InvalidArgumentError(`${path} is larger than ${maxFileSize} bytes`, { subject: path })
}
