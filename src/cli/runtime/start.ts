import { start } from '../../runtime/index.ts'
import type { Arguments } from '../arguments.ts'
import { type Command, type Context, idOf } from '../command.ts'

/** `oci-ts start`. */
export const startCommand: Command = {
  summary: 'Runs the program of a created container.',
  positionals: 'ID',
  count: [1, 1],
  options: {},
  run,
}

async function run(args: Arguments, { stateRoot }: Context): Promise<number> {
  await start(idOf(args), { stateRoot })
  return 0
}
