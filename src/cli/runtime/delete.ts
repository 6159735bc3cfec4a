import { NotFoundError } from '../../index.ts'
import { deleteContainer } from '../../runtime/index.ts'
import type { Arguments } from '../arguments.ts'
import { type Command, type Context, idOf } from '../command.ts'

/** `oci-ts delete`. */
export const deleteCommand: Command = {
  summary: 'Deletes a container that has stopped, or was not started.',
  positionals: 'ID',
  count: [1, 1],
  options: { force: { kind: 'flag', short: 'f', help: 'Kill it when it runs; that there is none is no error' } },
  run,
}

async function run(args: Arguments, { stateRoot }: Context): Promise<number> {
  const force = args.flag('force')
  try {
    await deleteContainer(idOf(args), { stateRoot, force })
  } catch (error) {
    if (!force || !(error instanceof NotFoundError)) throw error
  }
  return 0
}
