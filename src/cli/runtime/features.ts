import { features } from '../../runtime/index.ts'
import type { Command } from '../command.ts'
import { writeJson } from '../output.ts'

/** `oci-ts features`. */
export const featuresCommand: Command = {
  summary: 'Prints what the runtime can do as JSON, by the names of the specification.',
  positionals: '',
  options: {},
  run,
}

async function run(): Promise<number> {
  writeJson(await features())
  return 0
}
