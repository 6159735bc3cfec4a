import { checkpoint } from '../../runtime/index.ts'
import type { Arguments } from '../arguments.ts'
import { type Command, type Context, idOf } from '../command.ts'
import { criuOptions, criuOptionsOf } from './criu-options.ts'

/** `oci-ts checkpoint`. */
export const checkpointCommand: Command = {
  summary: 'Saves a running container to files, by way of CRIU; it has ended then.',
  positionals: 'ID',
  count: [1, 1],
  options: {
    ...criuOptions,
    'leave-running': { kind: 'flag', help: 'The container goes on' },
    'pre-dump': { kind: 'flag', help: 'Save only its memory; it goes on' },
    'parent-path': { kind: 'text', value: 'DIR', help: 'Earlier checkpoint, from --image-path; save what has changed' },
    'page-server': { kind: 'text', value: 'ADDRESS:PORT', help: 'Page server of CRIU that gets the memory' },
    'status-fd': { kind: 'text', value: 'N', help: 'Descriptor to write a zero byte to when it serves pages' },
    'tcp-skip-in-flight': { kind: 'flag', help: 'Leave out TCP connections that are not open yet' },
  },
  run,
}

async function run(args: Arguments, context: Context): Promise<number> {
  await checkpoint(idOf(args), {
    ...criuOptionsOf(args, context),
    stateRoot: context.stateRoot,
    leaveRunning: args.flag('leave-running'),
    preDump: args.flag('pre-dump'),
    parentPath: args.text('parent-path') || undefined,
    pageServer: args.text('page-server') || undefined,
    statusFd: args.count('status-fd'),
    skipTcpInFlight: args.flag('tcp-skip-in-flight'),
  })
  return 0
}
