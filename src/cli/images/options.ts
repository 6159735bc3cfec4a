import { type ParseArgsConfig, parseArgs } from 'node:util'
import { containersAuthCredentials, type RegistryClientOptions, readRegistriesConf } from '../../distribution/index.ts'
import { InvalidArgumentError } from '../../index.ts'

/** Options of every command that speaks to registries. */
export const registryOptions: {
  readonly insecure: { readonly type: 'string'; readonly multiple: true }
  readonly secure: { readonly type: 'boolean' }
  readonly authfile: { readonly type: 'string' }
  readonly mirrors: { readonly type: 'boolean' }
  readonly help: { readonly type: 'boolean'; readonly short: 'h' }
} = {
  insecure: { type: 'string', multiple: true },
  secure: { type: 'boolean' },
  authfile: { type: 'string' },
  mirrors: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
}

/** What the usage says of them. */
export const registryUsage: readonly string[] = [
  '      --insecure HOST      Speak to this registry in plain http; may be given several times',
  '      --secure             Speak https to registries on this machine, too',
  '      --authfile FILE      Credentials, as podman login leaves them. Default: those of Docker and podman',
  "      --mirrors            Use the mirrors and rewrites of podman's registries.conf",
  '  -h, --help               Print this',
]

/** The options of a client for values of {@link registryOptions}. */
export async function clientOptions(values: {
  readonly insecure?: readonly string[] | undefined
  readonly secure?: boolean | undefined
  readonly authfile?: string | undefined
  readonly mirrors?: boolean | undefined
}): Promise<RegistryClientOptions> {
  const { insecure, secure = false, authfile, mirrors } = values
  if (secure && insecure !== undefined) throw new InvalidArgumentError('--secure leaves nothing to --insecure')
  return {
    insecure: secure ? false : insecure,
    ...(authfile === undefined ? {} : { credentials: containersAuthCredentials({ path: authfile }) }),
    ...(mirrors === true ? { registries: await readRegistriesConf() } : {}),
    onEvent(event) {
      if (event.kind === 'warning') process.stderr.write(`oci-ts: ${event.registry} warns: ${event.text}\n`)
    },
  }
}

/** `parseArgs` with positionals, of which there must be from `least` to `most`. @throws InvalidArgumentError */
export function parse<T extends NonNullable<ParseArgsConfig['options']>>(
  args: readonly string[],
  options: T,
  [least, most]: readonly [least: number, most: number],
  usage: string,
): ReturnType<typeof parseArgs<{ args: string[]; options: T; allowPositionals: true }>> {
  const parsed = parseArgs({ args: [...args], options, allowPositionals: true })
  const { length } = parsed.positionals
  const isHelp = (parsed.values as { readonly help?: boolean }).help === true
  if (isHelp || (length >= least && length <= most)) return parsed
  const [line = ''] = usage.split('\n')
  throw new InvalidArgumentError(`${length < least ? 'too few' : 'too many'} arguments. ${line}`)
}

/** A number of `--name`. @throws InvalidArgumentError when it is none from 1 to `most`. */
export function count(name: string, text: string | undefined, most: number): number | undefined {
  if (text === undefined) return undefined
  const number = /^\d{1,6}$/.test(text) ? Number(text) : 0
  if (number >= 1 && number <= most) return number
  throw new InvalidArgumentError(`--${name} must be a number from 1 to ${most}, not ${JSON.stringify(text)}`)
}

/** A stranger's text for a terminal: control characters would move its cursor, or do worse. */
export function plain(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ')
}
