import { ConflictError } from '../../index.ts'
import { kill, killAll } from '../../runtime/index.ts'
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
  const id = idOf(args)
  const signal = args.positionals[1] ?? 'SIGTERM'
  if (!args.flag('all')) await kill(id, signal, { stateRoot })
  else await killAny(id, signal, stateRoot)
  return 0
}

/** That no process is left is what was wanted. */
async function killAny(id: string, signal: string, stateRoot: string | undefined): Promise<void> {
  try {
    await killAll(id, signal, { stateRoot })
  } catch (error) {
    if (!(error instanceof ConflictError)) throw error
  }
}
