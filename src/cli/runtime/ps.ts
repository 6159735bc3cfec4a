import { spawnSync } from 'node:child_process'
import { InvalidArgumentError, UnsupportedError } from '../../index.ts'
import { type ProcessInfo, top } from '../../runtime/index.ts'
import type { Arguments } from '../arguments.ts'
import { type Command, type Context, idOf } from '../command.ts'
import { writeTable, writeTo } from '../output.ts'

/** `oci-ts ps`. */
export const psCommand: Command = {
  summary: 'Lists the processes of a container; with options of ps(1) as that program of the host shows them.',
  positionals: 'ID [OPTION …]',
  count: [1, Number.POSITIVE_INFINITY],
  limits: { positionals: 1 },
  options: {
    format: { kind: 'text', short: 'f', value: 'table|json', help: 'How; json has pids only. Default: table' },
  },
  run,
}

/** What `ps` may say, in bytes. */
const maxOutput = 64 << 20

async function run(args: Arguments, { stateRoot }: Context): Promise<number> {
  const { format, options } = wanted(args)
  if (format !== 'table' && format !== 'json') {
    throw new InvalidArgumentError(`the format is table or json, not ${JSON.stringify(format)}`)
  }
  const processes = await top(idOf(args), { stateRoot })
  if (format === 'json') writeTo(1, `${JSON.stringify(processes.map(({ pid }) => pid))}\n`)
  else if (options.length > 0) writeTo(1, linesOf(options, new Set(processes.map(({ pid }) => String(pid)))))
  else writeTable([['UID', 'PID', 'PPID', 'S', 'TIME', 'STARTED', 'CMD'], ...processes.map(rowOf)])
  return 0
}

/** Behind the id are options of ps(1); but a format is one of ours there, too. */
function wanted(args: Arguments): { readonly format: string; readonly options: readonly string[] } {
  const options = args.positionals.slice(1).filter((option) => option !== '')
  const [, format] = /^--?(?:format|f)[= ](table|json)$/.exec(options.join(' ')) ?? []
  return format === undefined ? { format: args.text('format') ?? 'table', options } : { format, options: [] }
}

function rowOf({ uid, pid, parent, state, cpuTime, started, command }: ProcessInfo): readonly string[] {
  const seconds = Math.floor(cpuTime / 1000)
  return [uid, pid, parent, state, `${seconds}s`, started.toISOString(), command.join(' ')].map(String)
}

/** What `ps` of the host tells of `pids`. */
function linesOf(options: readonly string[], pids: ReadonlySet<string>): string {
  const { error, status, stdout, stderr } = spawnSync('ps', options, { encoding: 'utf8', maxBuffer: maxOutput })
  if (error !== undefined) {
    throw new UnsupportedError('options of ps', error.message, { cause: error, hint: 'Install procps.' })
  }
  if (status !== 0) throw new InvalidArgumentError(`ps ${options.join(' ')}: ${stderr.trim()}`)
  const [head = '', ...lines] = stdout.split('\n')
  const column = /(?:^| )PID(?= |$)/.exec(head)
  if (column === null) throw new InvalidArgumentError(`ps ${options.join(' ')} shows no column PID`)
  // Numbers are below the end of their head; the columns before it may be of several words.
  const end = column.index + column[0].length
  const own = lines.filter((line) => pids.has(wordAt(line, end - 1)))
  return [head, ...own].map((line) => `${line}\n`).join('')
}

function wordAt(line: string, index: number): string {
  const before = /\S*$/.exec(line.slice(0, index))?.[0] ?? ''
  return before + (/^\S*/.exec(line.slice(index))?.[0] ?? '')
}
