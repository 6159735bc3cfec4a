import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { createRegistryClient, saveCredential, staticCredentials } from '../../distribution/index.ts'
import { InvalidArgumentError } from '../../index.ts'
import { clientOptions, parse, registryOptions } from './options.ts'

const usage = [
  'Usage: oci-ts login [options] [REGISTRY]',
  '',
  'Checks a credential with a registry (default: docker.io) and keeps it where Docker does: with the helper that its',
  'configuration names, else in the file.',
  '',
  'Options:',
  '  -u, --username NAME      Default: asked for',
  '      --password-stdin     Read the password from standard input. Default: asked for, on a terminal',
  '      --config FILE        Default: $DOCKER_CONFIG/config.json, ~/.docker/config.json',
  '      --insecure HOST      Speak to this registry in plain http',
  '      --secure             Speak https to a registry on this machine, too',
  '  -h, --help               Print this',
  '',
].join('\n')

/** `oci-ts login`. */
export async function loginCommand(args: readonly string[]): Promise<string> {
  const options = {
    insecure: registryOptions.insecure,
    secure: registryOptions.secure,
    help: registryOptions.help,
    username: { type: 'string', short: 'u' },
    'password-stdin': { type: 'boolean' },
    config: { type: 'string' },
  } as const
  const { values, positionals } = parse(args, options, [0, 1], usage)
  if (values.help === true) return usage
  const [registry = 'docker.io'] = positionals
  const fromInput = values['password-stdin'] === true
  if (!fromInput && process.stdin.isTTY !== true) {
    throw new InvalidArgumentError('standard input is no terminal: give the password there with --password-stdin')
  }
  const username = values.username ?? (fromInput ? '' : await askFor('Username: ', true))
  const password = fromInput ? (await text(process.stdin)).replace(/\r?\n$/, '') : await askFor('Password: ', false)
  if (username === '' || password === '') throw new InvalidArgumentError('there is no user name or no password')
  const credential = { kind: 'password', username, password } as const
  const credentials = staticCredentials({ [registry]: credential })
  await using client = createRegistryClient({ ...(await clientOptions(values)), credentials })
  await client.ping(registry)
  const { place } = await saveCredential(registry, credential, { path: values.config })
  return `${registry} accepts it. It is kept in ${place}\n`
}

/** Asks on the terminal; what is secret is not shown. */
async function askFor(question: string, isShown: boolean): Promise<string> {
  process.stderr.write(question)
  const reader = createInterface({
    input: process.stdin,
    ...(isShown ? { output: process.stderr } : {}),
    terminal: true,
  })
  try {
    const closed = once(reader, 'close').then(() => {
      throw new InvalidArgumentError('it was not answered')
    })
    closed.catch(() => {})
    const [answer] = await Promise.race([once(reader, 'line'), closed])
    return String(answer)
  } finally {
    reader.close()
    if (!isShown) process.stderr.write('\n')
  }
}
