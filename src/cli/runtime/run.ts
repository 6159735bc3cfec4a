import type { RuntimeContainer } from '../../runtime/index.ts'
import type { Arguments } from '../arguments.ts'
import { attach } from '../attach.ts'
import type { Command, Context } from '../command.ts'
import { bundleOptions, createFrom } from './bundle-options.ts'

/** `oci-ts run`. */
export const runCommand: Command = {
  summary: 'Makes a container, runs its program, and ends with its exit code.',
  positionals: 'ID',
  count: [1, 1],
  options: {
    ...bundleOptions,
    detach: { kind: 'flag', short: 'd', help: 'Do not wait for the end of the program' },
    keep: { kind: 'flag', help: 'Do not delete the container when its program has ended' },
    'no-subreaper': { kind: 'flag' },
  },
  run,
}

async function run(args: Arguments, context: Context): Promise<number> {
  if (args.flag('detach')) {
    const container = await createFrom(args, context, { handOver: true })
    await started(container)
    await container.release()
    return 0
  }
  const keep = args.flag('keep')
  const container = await createFrom(args, context, { detach: keep })
  const stop = attach(container)
  try {
    await started(container)
    const { code } = await container.exited
    if (keep) await container.release()
    else await container.delete({ force: true })
    return code
  } finally {
    await stop()
  }
}

/** Starts a container; one that can't be started is deleted. */
async function started(container: RuntimeContainer): Promise<void> {
  try {
    await container.start()
  } catch (error) {
    await container.delete({ force: true })
    throw error
  }
}
