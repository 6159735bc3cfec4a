import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { readBundle } from '../bundle/index.ts'
import { formatPlan, plan } from '../runtime/index.ts'

const usage = [
  'Usage: oci-ts plan [--bundle DIR]',
  '',
  'Prints the system calls that would create and start the container of a bundle. None is made.',
  '',
  'Options:',
  '  -b, --bundle DIR  Directory with the config.json. Default: the working directory',
  '',
].join('\n')

/** `oci-ts plan`. */
export async function planCommand(args: readonly string[]): Promise<string> {
  const { values } = parseArgs({
    args: [...args],
    options: { bundle: { type: 'string', short: 'b', default: '.' }, help: { type: 'boolean', short: 'h' } },
  })
  if (values.help === true) return usage
  const bundle = resolve(values.bundle)
  return formatPlan(plan(await readBundle(bundle), { bundle }))
}
