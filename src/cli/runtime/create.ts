import type { Arguments } from '../arguments.ts'
import type { Command, Context } from '../command.ts'
import { bundleOptions, createFrom } from './bundle-options.ts'

/** `oci-ts create`. */
export const createCommand: Command = {
  summary: 'Makes a container; its program does not run before `start`.',
  positionals: 'ID',
  count: [1, 1],
  options: bundleOptions,
  run,
}

async function run(args: Arguments, context: Context): Promise<number> {
  const container = await createFrom(args, context, { handOver: true })
  await container.release()
  return 0
}
