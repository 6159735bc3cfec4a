import { type ContainerState, state } from '../../runtime/index.ts'
import type { Arguments } from '../arguments.ts'
import { type Command, type Context, idOf } from '../command.ts'
import { writeJson } from '../output.ts'

/** `oci-ts state`. */
export const stateCommand: Command = {
  summary: 'Prints the state of a container as JSON.',
  positionals: 'ID',
  count: [1, 1],
  options: {},
  run,
}

async function run(args: Arguments, { stateRoot }: Context): Promise<number> {
  writeJson(stateOf(await state(idOf(args), { stateRoot })))
  return 0
}

/** A state with the members, and in the order, that callers of runc know: where there is no pid it is 0. */
export function stateOf(of: ContainerState): ContainerState & { readonly pid: number } {
  const { ociVersion, id, pid = 0, status, bundle, rootfs, created, owner, annotations } = of
  const more = annotations === undefined ? {} : { annotations }
  return { ociVersion, id, pid, status, bundle, rootfs, created, ...more, owner }
}
