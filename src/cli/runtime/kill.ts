import { kill } from '../../runtime/index.ts'
import type { Arguments } from '../arguments.ts'
import { type Command, type Context, idOf } from '../command.ts'

/** `oci-ts kill`. */
export const killCommand: Command = {
  summary: 'Sends a signal to the first process of a container: a number, `TERM` or `SIGTERM`. Default SIGTERM.',
  positionals: 'ID [SIGNAL]',
  count: [1, 2],
  options: { all: { kind: 'flag', short: 'a', help: 'Send it to all processes of the container' } },
  run,
}

async function run(args: Arguments, { stateRoot }: Context): Promise<number> {
  await kill(idOf(args), args.positionals[1] ?? 'SIGTERM', { stateRoot })
  return 0
}
