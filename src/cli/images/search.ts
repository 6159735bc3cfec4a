import { createRegistryClient } from '../../distribution/index.ts'
import { clientOptions, count, parse, plain, registryOptions, registryUsage } from './options.ts'

const usage = [
  'Usage: oci-ts search [options] TERM',
  '',
  'Searches Docker Hub, or the list of repositories of another registry.',
  '',
  'Options:',
  '      --registry HOST      Registry to search. Default: docker.io',
  '      --limit N            Print so many at most. Default: 25',
  ...registryUsage,
  '',
].join('\n')

/** `oci-ts search`. */
export async function searchCommand(args: readonly string[]): Promise<string> {
  const options = { ...registryOptions, registry: { type: 'string' }, limit: { type: 'string' } } as const
  const { values, positionals } = parse(args, options, [1, 1], usage)
  const [term] = positionals
  if (values.help === true || term === undefined) return usage
  let left = count('limit', values.limit, 10_000) ?? 25
  await using client = createRegistryClient(await clientOptions(values))
  for await (const { name, stars, official, description } of client.search(term, { registry: values.registry })) {
    const words = [name, stars > 0 ? `${stars} stars` : '', official ? 'official' : '', description]
    process.stdout.write(
      `${words
        .filter((word) => word !== '')
        .map(plain)
        .join('  ')}\n`,
    )
    if (--left === 0) break
  }
  return ''
}
