import { createEngine } from '../../index.ts'
import { clientOptions, count, parse, registryOptions, registryUsage } from './options.ts'
import { watch } from './progress.ts'

const usage = [
  'Usage: oci-ts push [options] IMAGE [DESTINATION]',
  '',
  'Pushes an image of the store to where its name says, or to another name. Prints that and its digest.',
  '',
  'Options:',
  '      --concurrency N      Blobs at the same time. Default: 3',
  '  -q, --quiet              Show no progress',
  ...registryUsage,
  '',
].join('\n')

/** `oci-ts push`. */
export async function pushCommand(args: readonly string[]): Promise<string> {
  const { values, positionals } = parse(
    args,
    { ...registryOptions, concurrency: { type: 'string' }, quiet: { type: 'boolean', short: 'q' } },
    [1, 2],
    usage,
  )
  const [image, to] = positionals
  if (values.help === true || image === undefined) return usage
  const pushing = createEngine().push(image, {
    to,
    concurrency: count('concurrency', values.concurrency, 64),
    registry: await clientOptions(values),
  })
  const { reference, descriptor } = await watch(pushing, values.quiet === true ? undefined : process.stderr)
  return `${reference}@${descriptor.digest}\n`
}
