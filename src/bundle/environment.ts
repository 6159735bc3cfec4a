import { InvalidArgumentError } from '../errors.ts'
import { quote } from '../internal/text.ts'
import { defaultPath } from './defaults.ts'

/** Where the variables of a process come from, each over the ones before. */
export interface EnvironmentSources {
  readonly hostname: string | undefined
  readonly home: string
  readonly terminal: boolean
  /** The image's `KEY=value` entries. */
  readonly image: readonly string[]
  /** The user's; undefined or null removes one. */
  readonly user: Readonly<Record<string, string | null | undefined>>
}

/**
 * The environment as Docker and runc make it together: PATH, HOSTNAME, TERM with a terminal, the
 * image's, the user's; HOME from the account when nobody set it.
 * @throws InvalidArgumentError for a name or value that can't be passed to a process
 */
export function environment(sources: EnvironmentSources): readonly string[] {
  const variables = new Map([['PATH', defaultPath]])
  if (sources.hostname !== undefined && sources.hostname !== '') variables.set('HOSTNAME', sources.hostname)
  if (sources.terminal) variables.set('TERM', 'xterm')
  for (const entry of sources.image) {
    const [name, value] = split(entry)
    // An entry that can't be passed on is the image's fault; programs would not have seen it anywhere else either.
    if (name !== '' && !entry.includes('\0')) variables.set(name, value)
  }
  for (const [name, value] of Object.entries(sources.user)) {
    if (name === '' || /[=\0]/.test(name)) {
      throw new InvalidArgumentError(`env has the name ${quote(name)}, which can't be one`, { subject: 'env' })
    }
    if (value === undefined || value === null) {
      variables.delete(name)
      continue
    }
    if (value.includes('\0')) {
      throw new InvalidArgumentError(`env has a NUL character in the value of ${name}`, { subject: 'env' })
    }
    variables.set(name, value)
  }
  if (!variables.has('HOME') && !('HOME' in sources.user)) variables.set('HOME', sources.home)
  return [...variables].map(([name, value]) => `${name}=${value}`)
}

function split(entry: string): readonly [name: string, value: string] {
  const at = entry.indexOf('=')
  return at < 0 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1)]
}
