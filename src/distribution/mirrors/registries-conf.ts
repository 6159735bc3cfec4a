import { InvalidArgumentError } from '../../errors.ts'
import type { MirrorRule, RegistryRule } from './rules.ts'
import { isTable, parseToml, type TomlTable, type TomlValue } from './toml.ts'

/** Where registries.conf is looked for. */
export interface RegistriesConfOptions {
  /**
   * Path of the file; the directory `<path>.d` beside it is read too. Default
   * `$CONTAINERS_REGISTRIES_CONF`, else `~/.config/containers/registries.conf` if it is there, else
   * `/etc/containers/registries.conf` and after its directory `~/.config/containers/registries.conf.d`.
   */
  readonly path?: string | undefined
}

/** Bytes of one file. */
const maxSize = 1024 * 1024

/**
 * Reads podman's registries.conf (version 2) as rules for the option `registries` of a client. Of two
 * rules with the same prefix, that of the later file counts. Short names and their aliases are not read: references
 * follow Docker's rules here. An insecure registry is spoken to in plain http.
 * @throws InvalidArgumentError for a file that can't be read or makes no sense; one that is not there has no rules.
 */
export async function readRegistriesConf(options: RegistriesConfOptions = {}): Promise<readonly RegistryRule[]> {
  const { path, further } = options.path === undefined ? await defaultPath() : { path: options.path, further: [] }
  const rules = new Map<string, RegistryRule>()
  const dropped = await Promise.all([`${path}.d`, ...further].map(dropIns))
  for (const file of [path, ...dropped.flat()]) {
    const text = await readText(file)
    if (text === undefined) continue
    for (const rule of parseRegistriesConf(text, file)) rules.set(rule.prefix, rule)
  }
  return [...rules.values()]
}

/** The rules in the text of one file. @throws InvalidArgumentError */
export function parseRegistriesConf(text: string, name: string): readonly RegistryRule[] {
  const document = parseToml(text, name)
  if ('registries' in document) {
    throw new InvalidArgumentError(`${name} has the format of version 1, which is not read`, { subject: name })
  }
  return tables(document.registry, 'registry', name).map((entry) => {
    const location = string(entry, 'location', name)
    const prefix = string(entry, 'prefix', name) ?? location
    if (prefix === undefined)
      throw new InvalidArgumentError(`${name}: a registry has neither prefix nor location`, { subject: name })
    const digestOnly = boolean(entry, 'mirror-by-digest-only', name) === true
    return {
      prefix,
      location,
      insecure: insecure(entry, name),
      blocked: boolean(entry, 'blocked', name),
      mirrors: tables(entry.mirror, 'mirror', name).map((mirror) => parseMirror(mirror, digestOnly, name)),
    }
  })
}

function parseMirror(entry: TomlTable, digestOnly: boolean, name: string): MirrorRule {
  const location = string(entry, 'location', name)
  if (location === undefined) throw new InvalidArgumentError(`${name}: a mirror has no location`, { subject: name })
  const kinds: Readonly<Record<string, MirrorRule['pull']>> = { all: 'all', 'digest-only': 'digest', 'tag-only': 'tag' }
  const stated = string(entry, 'pull-from-mirror', name) ?? (digestOnly ? 'digest-only' : 'all')
  const pull = Object.hasOwn(kinds, stated) ? kinds[stated] : undefined
  if (pull === undefined) {
    throw new InvalidArgumentError(`${name}: pull-from-mirror can't be ${JSON.stringify(stated)}`, { subject: name })
  }
  return { location, insecure: insecure(entry, name), pull }
}

/** Only `true` says something: `false` is the default, which knows this machine's registries. */
function insecure(entry: TomlTable, name: string): true | undefined {
  return boolean(entry, 'insecure', name) === true ? true : undefined
}

function tables(value: TomlValue | undefined, key: string, name: string): readonly TomlTable[] {
  const list = value ?? []
  if (Array.isArray(list) && list.every(isTable)) return list
  throw new InvalidArgumentError(`${name}: ${key} is no list of tables`, { subject: name })
}

function string(entry: TomlTable, key: string, name: string): string | undefined {
  const value = entry[key]
  if (value === undefined || value === '') return undefined
  if (typeof value === 'string') return value
  throw new InvalidArgumentError(`${name}: ${key} is no string`, { subject: name })
}

function boolean(entry: TomlTable, key: string, name: string): boolean | undefined {
  const value = entry[key]
  if (value === undefined || typeof value === 'boolean') return value
  throw new InvalidArgumentError(`${name}: ${key} is neither true nor false`, { subject: name })
}

/** The file, and directories beside its own. */
async function defaultPath(): Promise<{ readonly path: string; readonly further: readonly string[] }> {
  const { join } = await import('node:path')
  const { homedir } = await import('node:os')
  const { access } = await import('node:fs/promises')
  const { CONTAINERS_REGISTRIES_CONF } = process.env
  if (CONTAINERS_REGISTRIES_CONF) return { path: CONTAINERS_REGISTRIES_CONF, further: [] }
  const own = join(process.env.XDG_CONFIG_HOME || join(homedir(), '.config'), 'containers', 'registries.conf')
  return access(own).then(
    () => ({ path: own, further: [] }),
    () => ({ path: '/etc/containers/registries.conf', further: [`${own}.d`] }),
  )
}

async function dropIns(directory: string): Promise<readonly string[]> {
  const { readdir } = await import('node:fs/promises')
  const names = await readdir(directory).catch(() => [])
  return names
    .filter((name) => name.endsWith('.conf'))
    .sort()
    .map((name) => `${directory}/${name}`)
}

async function readText(path: string): Promise<string | undefined> {
  const { readFile, stat } = await import('node:fs/promises')
  try {
    if ((await stat(path)).size <= maxSize) return await readFile(path, 'utf8')
  } catch (cause) {
    if (cause instanceof Error && Reflect.get(cause, 'code') === 'ENOENT') return undefined
    throw new InvalidArgumentError(`${path} can't be read`, { subject: path, cause })
  }
  throw new InvalidArgumentError(`${path} is larger than ${maxSize} bytes`, { subject: path })
}
