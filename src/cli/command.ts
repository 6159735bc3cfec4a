import type { Arguments, Options, ParseLimits } from './arguments.ts'
import type { Log } from './log.ts'

/** What every command gets: the options that stand before it. */
export interface Context {
  /** `--root`; undefined for the default of the library. */
  readonly stateRoot: string | undefined
  readonly log: Log
  /** `--criu`: the program of CRIU; undefined for the one in PATH. */
  readonly criu: string | undefined
  /** Whether cgroups are made through systemd. */
  readonly systemdCgroup: boolean
  /** Whether cgroups are left alone altogether. */
  readonly withoutCgroup: boolean
}

/** One command of the runtime's command line. */
export interface Command {
  /** What it does, as one line of the usage. */
  readonly summary: string
  /** Its positionals, as the usage shows them. */
  readonly positionals: string
  /** How many positionals there must be, and may be. Default none. */
  readonly count?: readonly [least: number, most: number]
  /** Where its options end. Default nowhere. */
  readonly limits?: ParseLimits
  readonly options: Options
  /** @returns the exit code. */
  run(args: Arguments, context: Context): Promise<number>
}

/** The id that a command is about: its first positional. */
export function idOf(args: Arguments): string {
  return args.positionals[0] as string
}

/** The text of the usage of `command`. */
export function usageOf(name: string, { summary, positionals, options }: Command): string {
  const head = `Usage: oci-ts ${name} [options] ${positionals}`.trimEnd()
  return `${head}\n\n${summary}\n${Object.keys(options).length > 0 ? `\n${optionsText(options)}` : ''}`
}

/** The part of a usage that tells the options. */
export function optionsText(options: Options): string {
  const lines = Object.entries(options).flatMap(([long, { short, value, help }]) => {
    if (help === undefined) return []
    const forms = `${short === undefined ? '    ' : `-${short}, `}--${long}${value === undefined ? '' : ` ${value}`}`
    return [`  ${forms.padEnd(32)} ${help}\n`]
  })
  return `Options:\n${lines.join('')}`
}
