import { pause, resume } from '../../runtime/index.ts'
import type { Arguments } from '../arguments.ts'
import { type Command, type Context, idOf } from '../command.ts'

/** `oci-ts pause`. */
export const pauseCommand: Command = {
  summary: 'Stops all processes of a container where they are.',
  positionals: 'ID',
  count: [1, 1],
  options: {},
  run: runPause,
}

/** `oci-ts resume`. */
export const resumeCommand: Command = {
  summary: 'Lets the processes of a paused container go on.',
  positionals: 'ID',
  count: [1, 1],
  options: {},
  run: runResume,
}

async function runPause(args: Arguments, { stateRoot }: Context): Promise<number> {
  await pause(idOf(args), { stateRoot })
  return 0
}

async function runResume(args: Arguments, { stateRoot }: Context): Promise<number> {
  await resume(idOf(args), { stateRoot })
  return 0
}
