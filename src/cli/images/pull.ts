import { createEngine } from '../../index.ts'
import { clientOptions, count, parse, registryOptions, registryUsage } from './options.ts'
import { watch } from './progress.ts'

const usage = [
  'Usage: oci-ts pull [options] IMAGE',
  '',
  'Pulls an image into the store, and goes on where an earlier pull broke off. Prints its name and digest.',
  '',
  'Options:',
  '      --platform PLATFORM  os/architecture[/variant]. Default: that of this machine',
  '      --concurrency N      Blobs at the same time. Default: 3',
  '      --no-unpack          Leave unpacking the layers to the first run',
  '  -q, --quiet              Show no progress',
  ...registryUsage,
  '',
].join('\n')

/** `oci-ts pull`. */
export async function pullCommand(args: readonly string[]): Promise<string> {
  const { values, positionals } = parse(
    args,
    {
      ...registryOptions,
      platform: { type: 'string' },
      concurrency: { type: 'string' },
      'no-unpack': { type: 'boolean' },
      quiet: { type: 'boolean', short: 'q' },
    },
    [1, 1],
    usage,
  )
  const [reference] = positionals
  if (values.help === true || reference === undefined) return usage
  const pulling = createEngine().pull(reference, {
    platform: values.platform,
    concurrency: count('concurrency', values.concurrency, 64),
    unpack: values['no-unpack'] === true ? false : undefined,
    registry: await clientOptions(values),
  })
  const image = await watch(pulling, values.quiet === true ? undefined : process.stderr)
  return `${image.reference}@${image.digest}\n`
}
