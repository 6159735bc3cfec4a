import { audit } from '../../runtime/index.ts'
import type { Arguments } from '../arguments.ts'
import { type Command, type Context, idOf } from '../command.ts'
import { writeJson } from '../output.ts'

/** `oci-ts audit`. */
export const auditCommand: Command = {
  summary:
    'Compares a running container with its config; prints what differs as JSON, and ends with 1 when something does.',
  positionals: 'ID',
  count: [1, 1],
  options: {},
  run,
}

async function run(args: Arguments, { stateRoot }: Context): Promise<number> {
  const findings = await audit(idOf(args), { stateRoot })
  writeJson(findings)
  return findings.length === 0 ? 0 : 1
}
