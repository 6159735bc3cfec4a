import { type CopyOperation, copy } from '../../content/index.ts'
import { createRegistryClient } from '../../distribution/index.ts'
import { parsePlatform } from '../../image/index.ts'
import { clientOptions, count, parse, registryOptions, registryUsage } from './options.ts'
import { openSource, openTarget, parsePlace } from './places.ts'
import { watch } from './progress.ts'

const usage = [
  'Usage: oci-ts copy [options] SOURCE DESTINATION',
  '',
  'Copies an image byte by byte, with all its platforms. Prints its digest. Places are:',
  '  IMAGE, docker://IMAGE        an image of a registry',
  '  oci:DIRECTORY[:NAME]         an image layout',
  '  oci-archive:FILE[:NAME]      an archive; what is written can be loaded by Docker, too',
  '  docker-archive:FILE[:NAME]   the same',
  '  store:IMAGE                  the store',
  'A destination without NAME gets that of the source; a source without one must have a single image.',
  '',
  'Options:',
  '      --platform PLATFORM  Copy only this image of an index; several, separated by commas, make a new index',
  '      --referrers          Copy what refers to it as well: signatures, SBOMs',
  '      --concurrency N      Blobs at the same time. Default: 3',
  '  -q, --quiet              Show no progress',
  ...registryUsage,
  '',
].join('\n')

/** `oci-ts copy`. */
export async function copyCommand(args: readonly string[]): Promise<string> {
  const { values, positionals } = parse(
    args,
    {
      ...registryOptions,
      platform: { type: 'string' },
      referrers: { type: 'boolean' },
      concurrency: { type: 'string' },
      quiet: { type: 'boolean', short: 'q' },
    },
    [2, 2],
    usage,
  )
  const [from, to] = positionals
  if (values.help === true || from === undefined || to === undefined) return usage
  const platforms = values.platform?.split(',').map(parsePlatform)
  const [platform, ...others] = platforms ?? []
  await using client = createRegistryClient(await clientOptions(values))
  await using source = await openSource(parsePlace(from), client)
  await using target = await openTarget(parsePlace(to), client, source.name)
  const copying: CopyOperation = copy(source.content, source.reference, target.content, {
    ...(others.length === 0 ? { platform } : { platforms }),
    as: target.name,
    referrers: values.referrers,
    concurrency: count('concurrency', values.concurrency, 64),
  })
  const { digest } = await watch(copying, values.quiet === true ? undefined : process.stderr)
  await target.finish()
  return `${digest}\n`
}
