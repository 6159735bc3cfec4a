import { InvalidArgumentError } from '../../index.ts'
import { type ExecProcess, exec } from '../../runtime/index.ts'
import type { Arguments } from '../arguments.ts'
import { attach } from '../attach.ts'
import { type Command, type Context, idOf } from '../command.ts'
import { preservedOf } from '../inherited.ts'
import { processOf } from './exec-process.ts'

/** `oci-ts exec`. */
export const execCommand: Command = {
  summary: 'Runs a further process in a container.',
  positionals: 'ID [COMMAND [ARGUMENT …]]',
  count: [1, Number.POSITIVE_INFINITY],
  limits: { positionals: 1 },
  options: {
    process: { kind: 'text', short: 'p', value: 'FILE', help: 'File with the process as config.json has it' },
    cwd: { kind: 'text', value: 'DIR', help: 'Working directory' },
    env: { kind: 'texts', short: 'e', value: 'NAME=VALUE', help: 'Add a variable to the environment' },
    user: { kind: 'text', short: 'u', value: 'UID[:GID]', help: 'Who runs it' },
    'additional-gids': { kind: 'texts', short: 'g', value: 'GID', help: 'Add a group' },
    cap: { kind: 'texts', short: 'c', value: 'NAME', help: 'Add a capability' },
    tty: { kind: 'flag', short: 't', help: 'Give it a terminal' },
    'console-socket': { kind: 'text', value: 'PATH', help: 'Socket that gets the master of the terminal' },
    'pidfd-socket': { kind: 'text', value: 'PATH', help: 'Socket that gets a pidfd of it' },
    detach: { kind: 'flag', short: 'd', help: 'Do not wait for its end' },
    'pid-file': { kind: 'text', value: 'FILE', help: 'File to write its pid to' },
    'process-label': { kind: 'text', value: 'LABEL', help: 'SELinux label' },
    apparmor: { kind: 'text', value: 'PROFILE', help: 'AppArmor profile' },
    'no-new-privs': { kind: 'flag', help: 'Set no_new_privs' },
    'preserve-fds': { kind: 'text', value: 'N', help: 'Hand N descriptors, from 3 on, to it' },
    cgroup: { kind: 'texts', value: '[CONTROLLER,…:]PATH', help: 'Cgroup below that of the container' },
    'ignore-paused': { kind: 'flag', help: 'Also in a paused container, where it waits' },
    'no-subreaper': { kind: 'flag' },
  },
  run,
}

async function run(args: Arguments, { stateRoot }: Context): Promise<number> {
  const id = idOf(args)
  const detach = args.flag('detach')
  const process = await exec(id, withSize(await processOf(id, args, stateRoot)), {
    stateRoot,
    stdio: [0, 1, 2],
    handOver: detach,
    ignorePaused: args.flag('ignore-paused'),
    pidFile: args.text('pid-file') || undefined,
    preserveFds: preservedOf(args),
    cgroup: cgroupOf(args.texts('cgroup')),
    consoleSocket: args.text('console-socket') || undefined,
    pidfdSocket: args.text('pidfd-socket') || undefined,
  })
  if (detach) {
    await process.release()
    return 0
  }
  const stop = attach(process)
  try {
    return (await process.exited).code
  } finally {
    await stop()
  }
}

/** `PATH`, or `cpu,memory:PATH` once or more for controllers of version 1, as runc has it. */
function cgroupOf(given: readonly string[]): string | Readonly<Record<string, string>> | undefined {
  const parts = given.map((text) => text.split(':'))
  const [[only = ''] = []] = parts
  if (parts.length === 0) return undefined
  if (parts.length === 1 && parts[0]?.length === 1) return only || undefined
  const wrong = given.find((_, index) => parts[index]?.length !== 2)
  if (wrong !== undefined) {
    throw new InvalidArgumentError(`--cgroup ${wrong} is neither one path for all nor CONTROLLER,…:PATH`)
  }
  return Object.fromEntries(
    parts.flatMap(([controllers = '', path = '']) => controllers.split(',').map((controller) => [controller, path])),
  )
}

/** A terminal has the size of the one here from the start: the program may look at it before it can be told. */
function withSize(wanted: ExecProcess): ExecProcess {
  if (wanted.terminal !== true || wanted.consoleSize !== undefined || !process.stdout.isTTY) return wanted
  const { rows, columns } = process.stdout
  return { ...wanted, consoleSize: { height: rows, width: columns } }
}
