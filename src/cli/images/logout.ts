import { removeCredential } from '../../distribution/index.ts'
import { parse, registryOptions } from './options.ts'

const usage = [
  'Usage: oci-ts logout [options] [REGISTRY]',
  '',
  'Removes the credential for a registry (default: docker.io) from where Docker keeps it.',
  '',
  'Options:',
  '      --config FILE        Default: $DOCKER_CONFIG/config.json, ~/.docker/config.json',
  '  -h, --help               Print this',
  '',
].join('\n')

/** `oci-ts logout`. */
export async function logoutCommand(args: readonly string[]): Promise<string> {
  const options = { help: registryOptions.help, config: { type: 'string' } } as const
  const { values, positionals } = parse(args, options, [0, 1], usage)
  if (values.help === true) return usage
  const [registry = 'docker.io'] = positionals
  const place = await removeCredential(registry, { path: values.config })
  return place === undefined ? `There was none for ${registry}\n` : `Removed from ${place}\n`
}
