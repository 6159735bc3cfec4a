import { InvalidArgumentError } from '../../index.ts'
import { type ProcessInfo, top } from '../../runtime/index.ts'
import type { Arguments } from '../arguments.ts'
import { type Command, type Context, idOf } from '../command.ts'
import { writeTable, writeTo } from '../output.ts'

/** `oci-ts ps`. */
export const psCommand: Command = {
  summary: 'Lists the processes of a container.',
  positionals: 'ID',
  count: [1, 1],
  options: {
    format: { kind: 'text', short: 'f', value: 'table|json', help: 'How; json has pids only. Default: table' },
  },
  run,
}

async function run(args: Arguments, { stateRoot }: Context): Promise<number> {
  const format = args.text('format') ?? 'table'
  if (format !== 'table' && format !== 'json') {
    throw new InvalidArgumentError(`the format is table or json, not ${JSON.stringify(format)}`)
  }
  const processes = await top(idOf(args), { stateRoot })
  if (format === 'json') writeTo(1, `${JSON.stringify(processes.map(({ pid }) => pid))}\n`)
  else writeTable([['UID', 'PID', 'PPID', 'S', 'TIME', 'STARTED', 'CMD'], ...processes.map(rowOf)])
  return 0
}

function rowOf({ uid, pid, parent, state, cpuTime, started, command }: ProcessInfo): readonly string[] {
  const seconds = Math.floor(cpuTime / 1000)
  return [uid, pid, parent, state, `${seconds}s`, started.toISOString(), command.join(' ')].map(String)
}
