import { InvalidArgumentError } from '../index.ts'

/** One option of a command. */
export interface Option {
  /** A flag takes no value (but `--flag=false`); of a text the last one counts; texts may be given several times. */
  readonly kind: 'flag' | 'text' | 'texts'
  /** The letter of its short form. */
  readonly short?: string
  /** What stands for its value in the usage. */
  readonly value?: string
  /** Undefined for what is taken, and has no effect here. */
  readonly help?: string
}

/** Options by their long names. */
export type Options = Readonly<Record<string, Option>>

/** A command line, taken apart. */
export interface Arguments {
  readonly positionals: readonly string[]
  flag(name: string): boolean
  text(name: string): string | undefined
  texts(name: string): readonly string[]
  /** A text that is a decimal number of at most `maximum`. @throws InvalidArgumentError for any other. */
  count(name: string, maximum?: number): number | undefined
}

/** How far options go. */
export interface ParseLimits {
  /** After that many positionals everything is one: what follows is the command line of somebody else. */
  readonly positionals?: number
}

/**
 * Takes a command line apart. Options may stand before and behind the positionals, as callers of runtimes put
 * them; `--` ends them.
 * @throws InvalidArgumentError for an option that is not known, or lacks its value.
 */
export function parseArguments(args: readonly string[], options: Options, limits: ParseLimits = {}): Arguments {
  const positionals: string[] = []
  const values = new Map<string, string[]>()
  const rest = [...args]
  while (rest.length > 0) {
    const arg = rest.shift() as string
    if (arg === '--') {
      positionals.push(...rest.splice(0))
    } else if (arg.startsWith('-') && arg !== '-') {
      const { name, option, value } = optionOf(arg, options)
      values.set(name, [...(values.get(name) ?? []), value ?? followingValue(arg, option, rest)])
    } else {
      positionals.push(arg)
      if (positionals.length === limits.positionals) positionals.push(...rest.splice(0))
    }
  }
  return new ParsedArguments(positionals, values)
}

function optionOf(arg: string, options: Options) {
  const [, given = '', value] = /^--?([^=]*)(?:=(.*))?$/s.exec(arg) ?? []
  // With one dash or two, as the flags of Go are.
  const found = Object.entries(options).find(([name, { short }]) => given === name || given === short)
  if (found === undefined) throw new InvalidArgumentError(`there is no option ${arg.split('=')[0]}`, { subject: arg })
  return { name: found[0], option: found[1], value }
}

function followingValue(arg: string, option: Option, rest: string[]): string {
  if (option.kind === 'flag') return 'true'
  const value = rest.shift()
  if (value === undefined) throw new InvalidArgumentError(`the option ${arg} needs a value`, { subject: arg })
  return value
}

class ParsedArguments implements Arguments {
  readonly positionals: readonly string[]
  private readonly values: ReadonlyMap<string, readonly string[]>

  constructor(positionals: readonly string[], values: ReadonlyMap<string, readonly string[]>) {
    this.positionals = positionals
    this.values = values
  }

  flag(name: string): boolean {
    const value = this.text(name) ?? 'false'
    if (!['true', 'false', '1', '0'].includes(value)) {
      throw new InvalidArgumentError(`--${name} is true or false, not ${JSON.stringify(value)}`, { subject: value })
    }
    return value === 'true' || value === '1'
  }

  text(name: string): string | undefined {
    return this.texts(name).at(-1)
  }

  texts(name: string): readonly string[] {
    return this.values.get(name) ?? []
  }

  count(name: string, maximum = Number.MAX_SAFE_INTEGER): number | undefined {
    const value = this.text(name)
    return value === undefined ? undefined : decimal(value, `--${name}`, maximum)
  }
}

/**
 * A number in decimal digits and nothing else: `1:2`, `01`, `1x` and the empty string are none. Half of a number that
 * is taken for a whole one makes root of a user (CVE-2026-30892).
 * @throws InvalidArgumentError naming `what`.
 */
export function decimal(text: string, what: string, maximum: number = Number.MAX_SAFE_INTEGER): number {
  const number = /^(0|[1-9]\d{0,15})$/.test(text) ? Number(text) : Number.NaN
  if (number <= maximum) return number
  throw new InvalidArgumentError(`${what} is a number from 0 to ${maximum}, not ${JSON.stringify(text)}`, {
    subject: text,
  })
}
