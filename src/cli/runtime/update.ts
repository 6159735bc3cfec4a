import { type LinuxResources, validateResources } from '../../bundle/index.ts'
import { InvalidArgumentError } from '../../index.ts'
import { update } from '../../runtime/index.ts'
import type { Arguments, Option, Options } from '../arguments.ts'
import { type Command, type Context, idOf } from '../command.ts'
import { readDocument } from '../input.ts'

type Kind = 'number' | 'bytes' | 'text'

/** Option, the member of `linux.resources` that it sets, and what that is. */
const fields: Readonly<Record<string, readonly [path: string, kind: Kind, help: string]>> = {
  memory: ['memory/limit', 'bytes', 'Memory, in bytes or as 64m; -1 for no limit'],
  'memory-reservation': ['memory/reservation', 'bytes', 'Memory that is kept for it when there is little'],
  'memory-swap': ['memory/swap', 'bytes', 'Memory and swap together; -1 for no limit'],
  'kernel-memory': ['memory/kernel', 'bytes', 'Memory of the kernel for it'],
  'kernel-memory-tcp': ['memory/kernelTCP', 'bytes', 'Memory of the kernel for its TCP buffers'],
  'cpu-period': ['cpu/period', 'number', 'Length of the periods of --cpu-quota, in microseconds'],
  'cpu-quota': ['cpu/quota', 'number', 'Processor time in a period, in microseconds; -1 for no limit'],
  'cpu-burst': ['cpu/burst', 'number', 'What of it may be saved for later periods'],
  'cpu-share': ['cpu/shares', 'number', 'Weight among its siblings'],
  'cpu-rt-period': ['cpu/realtimePeriod', 'number', 'The same for real-time scheduling'],
  'cpu-rt-runtime': ['cpu/realtimeRuntime', 'number', 'The same for real-time scheduling'],
  'cpuset-cpus': ['cpu/cpus', 'text', 'Processors'],
  'cpuset-mems': ['cpu/mems', 'text', 'Memory nodes'],
  'cpu-idle': ['cpu/idle', 'number', '1 to run only when nothing else does'],
  'pids-limit': ['pids/limit', 'number', 'Processes and threads; -1 for no limit'],
  'blkio-weight': ['blockIO/weight', 'number', 'Weight of its block I/O, 10 to 1000'],
}

/** `oci-ts update`. */
export const updateCommand: Command = {
  summary: 'Changes limits of a container while it runs.',
  positionals: 'ID',
  count: [1, 1],
  options: optionsOf(),
  run,
}

function optionsOf(): Options {
  const file: Option = { kind: 'text', short: 'r', value: 'FILE', help: 'JSON as linux.resources has it; - to read it' }
  const others = Object.entries(fields).map(([name, [, , help]]) => [name, { kind: 'text', value: 'N', help }] as const)
  return { resources: file, ...Object.fromEntries(others) }
}

async function run(args: Arguments, { stateRoot }: Context): Promise<number> {
  const file = args.text('resources')
  const resources = file === undefined || file === '' ? given(args) : JSON.parse(readDocument(file))
  await update(idOf(args), validateResources(resources), { stateRoot })
  return 0
}

function given(args: Arguments): LinuxResources {
  const resources: Record<string, Record<string, number | string>> = {}
  for (const [name, [path, kind]] of Object.entries(fields)) {
    const text = args.text(name)
    if (text === undefined || text === '') continue
    const [group = '', member = ''] = path.split('/')
    resources[group] = { ...resources[group], [member]: limitOf(text, name, kind) }
  }
  return resources
}

function limitOf(text: string, name: string, kind: Kind): number | string {
  if (kind === 'text') return text
  if (kind === 'number') return integer(text, name)
  const [, number = text, unit = 'b'] = /^(\d+)([bkmgt])$/i.exec(text) ?? []
  const bytes = integer(number, name) * 1024 ** 'bkmgt'.indexOf(unit.toLowerCase())
  if (Number.isSafeInteger(bytes)) return bytes
  throw new InvalidArgumentError(`--${name} is too large: ${JSON.stringify(text)}`, { subject: text })
}

function integer(text: string, name: string): number {
  const number = /^-?\d{1,16}$/.test(text) ? Number(text) : Number.NaN
  if (Number.isSafeInteger(number)) return number
  throw new InvalidArgumentError(`--${name} is a number, not ${JSON.stringify(text)}`, { subject: text })
}
