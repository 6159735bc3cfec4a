import { createRegistryClient } from '../../distribution/index.ts'
import { clientOptions, count, parse, registryOptions, registryUsage } from './options.ts'

const usage = [
  'Usage: oci-ts tags [options] REPOSITORY',
  '',
  'Prints the tags of a repository, one a line, in the order of the registry.',
  '',
  'Options:',
  '      --limit N            Print so many at most. Default: all',
  ...registryUsage,
  '',
].join('\n')

/** `oci-ts tags`. */
export async function tagsCommand(args: readonly string[]): Promise<string> {
  const { values, positionals } = parse(args, { ...registryOptions, limit: { type: 'string' } }, [1, 1], usage)
  const [name] = positionals
  if (values.help === true || name === undefined) return usage
  let left = count('limit', values.limit, 999_999) ?? Number.POSITIVE_INFINITY
  await using client = createRegistryClient(await clientOptions(values))
  for await (const tag of client.repository(name).tags()) {
    process.stdout.write(`${tag}\n`)
    if (--left === 0) break
  }
  return ''
}
