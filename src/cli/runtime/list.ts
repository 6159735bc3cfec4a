import { InvalidArgumentError } from '../../index.ts'
import { listContainers } from '../../runtime/index.ts'
import type { Arguments } from '../arguments.ts'
import type { Command, Context } from '../command.ts'
import { writeTable, writeTo } from '../output.ts'
import { stateOf } from './state.ts'

const columns = ['id', 'pid', 'status', 'bundle', 'created', 'owner'] as const

/** `oci-ts list`. */
export const listCommand: Command = {
  summary: 'Lists the containers below the root.',
  positionals: '',
  options: {
    format: { kind: 'text', short: 'f', value: 'table|json', help: 'How. Default: table' },
    quiet: { kind: 'flag', short: 'q', help: 'Print ids only' },
  },
  run,
}

async function run(args: Arguments, { stateRoot }: Context): Promise<number> {
  const format = args.text('format') ?? 'table'
  if (format !== 'table' && format !== 'json') {
    throw new InvalidArgumentError(`the format is table or json, not ${JSON.stringify(format)}`)
  }
  const states = (await listContainers({ stateRoot })).map(stateOf)
  if (args.flag('quiet')) {
    writeTo(1, states.map(({ id }) => `${id}\n`).join(''))
  } else if (format === 'json') {
    writeTo(1, `${JSON.stringify(states)}\n`)
  } else {
    const rows = states.map((each) => columns.map((column) => String(each[column])))
    writeTable([columns.map((column) => column.toUpperCase()), ...rows])
  }
  return 0
}
