import { resolve } from 'node:path'
import { readBundle } from '../../bundle/index.ts'
import { formatPlan, plan } from '../../runtime/index.ts'
import type { Arguments } from '../arguments.ts'
import type { Command } from '../command.ts'
import { writeTo } from '../output.ts'

/** `oci-ts plan`. */
export const planCommand: Command = {
  summary: 'Prints the system calls that would create and start the container of a bundle. None is made.',
  positionals: '',
  options: {
    bundle: {
      kind: 'text',
      short: 'b',
      value: 'DIR',
      help: 'Directory of config.json. Default: the working directory',
    },
  },
  run,
}

async function run(args: Arguments): Promise<number> {
  const bundle = resolve(args.text('bundle') || '.')
  writeTo(1, formatPlan(plan(await readBundle(bundle), { bundle })))
  return 0
}
