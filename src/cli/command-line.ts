import { createRequire } from 'node:module'
import { InvalidArgumentError, OciError } from '../index.ts'
import { type Arguments, type Options, parseArguments } from './arguments.ts'
import { type Command, type Context, optionsText, usageOf } from './command.ts'
import { explain } from './explain.ts'
import { Log } from './log.ts'
import { writeTo } from './output.ts'
import { runtimeCommands } from './runtime/commands.ts'

const globals: Options = {
  root: { kind: 'text', value: 'DIR', help: 'Where containers are recorded. Default: /run/oci-ts' },
  log: { kind: 'text', value: 'FILE', help: 'Where errors are logged. Default: standard error' },
  'log-format': { kind: 'text', value: 'text|json', help: 'How. Default: text' },
  'log-level': { kind: 'text', value: 'LEVEL', help: 'The least that is logged: error, warning, info, debug' },
  debug: { kind: 'flag', help: 'Log all there is' },
  'systemd-cgroup': { kind: 'flag', help: 'Make cgroups through systemd' },
  'cgroup-manager': { kind: 'text', value: 'NAME', help: 'cgroupfs, systemd, or disabled for none. Default: cgroupfs' },
  rootless: { kind: 'text' },
  criu: { kind: 'text', value: 'PROGRAM', help: 'CRIU, for checkpoint and restore. Default: the one in PATH' },
  help: { kind: 'flag', short: 'h', help: 'Print this, or behind a command what it does' },
  version: { kind: 'flag', short: 'v', help: 'Print the version' },
}

async function usage(): Promise<string> {
  const { libraryCommands } = await import('./library.ts')
  const lines = Object.entries({ ...runtimeCommands, ...libraryCommands }).map(
    ([name, { summary }]) => `  ${name.padEnd(10)} ${summary}`,
  )
  return `Usage: oci-ts [options] COMMAND …\n\nCommands:\n${lines.join('\n')}\n\n${optionsText(globals)}`
}

/** As Docker and containerd read it. */
function versionText(): string {
  const { version } = createRequire(import.meta.url)('../../package.json') as { readonly version: string }
  return `oci-ts version ${version}\ncommit: v${version}\nspec: 1.3.0\nnode: ${process.version}\n`
}

function contextOf(args: Arguments): Context {
  const manager = args.text('cgroup-manager') ?? 'cgroupfs'
  if (!['cgroupfs', 'systemd', 'disabled'].includes(manager)) {
    throw new InvalidArgumentError(`there is no cgroup manager ${JSON.stringify(manager)}`)
  }
  return {
    stateRoot: args.text('root') || undefined,
    log: new Log({
      path: args.text('log'),
      format: args.text('log-format'),
      level: args.flag('debug') ? 'debug' : args.text('log-level'),
    }),
    criu: args.text('criu') || undefined,
    systemdCgroup: args.flag('systemd-cgroup') || manager === 'systemd',
    withoutCgroup: manager === 'disabled',
  }
}

/** Runs a command line, and ends the process unless what it runs is to say when. */
export function main(argv: readonly string[]): void {
  void runLine(argv).then((code) => {
    if (code !== undefined) process.exit(code)
  })
}

/** @returns the exit code; undefined when Node is to say when it ends, and with what. */
async function runLine(argv: readonly string[]): Promise<number | undefined> {
  let context: Context | undefined
  /** The command that runs; empty while it is being read. */
  let verb = ''
  let id = ''
  try {
    const args = parseArguments(argv, globals, { positionals: 1 })
    const [name, ...rest] = args.positionals
    if (args.flag('version')) return print(versionText())
    if (args.flag('help') || name === undefined) return print(await usage())
    if (name === 'help') return print(await helpOf(rest[0]))
    context = contextOf(args)
    const command = Object.hasOwn(runtimeCommands, name) ? runtimeCommands[name] : undefined
    if (command === undefined) return await runOther(name, rest)
    const own = parseArguments(rest, { ...command.options, help: globals.help as Options[string] }, command.limits)
    if (own.flag('help')) return print(usageOf(name, command))
    checkCount(name, command, own.positionals.length)
    verb = name
    id = own.positionals[0] ?? ''
    return await command.run(own, context)
  } catch (error) {
    const log = context?.log ?? new Log()
    const message = await explain(error, verb, id, context?.stateRoot)
    log.write('error', message)
    if (!log.isStandardError) writeTo(2, `${message}\n`)
    if (error instanceof UnknownCommandError) return 3
    return verb === 'exec' && error instanceof OciError ? 255 : 1
  }
}

/** A command that there is not: runc ends with another code for it. */
class UnknownCommandError extends InvalidArgumentError {
  constructor(name: string) {
    super(`there is no command ${JSON.stringify(name)}`, { subject: name, hint: 'See oci-ts --help.' })
  }
}

async function helpOf(name: string | undefined): Promise<string> {
  if (name === undefined || !Object.hasOwn(runtimeCommands, name)) return usage()
  return usageOf(name, runtimeCommands[name] as Command)
}

function print(text: string): number {
  writeTo(1, text)
  return 0
}

/** Runs a command of the library, which is loaded only now. */
async function runOther(name: string, args: readonly string[]): Promise<undefined> {
  const { libraryCommands } = await import('./library.ts')
  const command = Object.hasOwn(libraryCommands, name) ? libraryCommands[name] : undefined
  if (command === undefined) throw new UnknownCommandError(name)
  process.stdout.write(await command.run(args))
}

function checkCount(name: string, { count: [least, most] = [0, 0], positionals }: Command, given: number): void {
  if (given >= least && given <= most) return
  throw new InvalidArgumentError(`oci-ts ${name} takes ${positionals === '' ? 'no argument' : positionals}`, {
    hint: `See oci-ts ${name} --help.`,
  })
}
