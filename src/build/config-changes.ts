import { posix } from 'node:path'
import { InvalidArgumentError } from '../errors.ts'
import type { ExecutionConfig } from '../image/config.ts'
import { quote } from '../internal/text.ts'
import { expand, rawWords, type Variables, words } from './words.ts'

/** What an instruction makes of a config. `rest` is what stands behind its name, and not empty; `known` the variables. */
type Change = (config: ExecutionConfig, rest: string, known: Variables) => ExecutionConfig

/**
 * Changes a config as the instructions of a Dockerfile would: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, SHELL, STOPSIGNAL,
 * USER, VOLUME, WORKDIR; each is one line. Variables are those of the config, with what earlier instructions have set.
 * @throws InvalidArgumentError for another instruction, and for what an instruction can't mean.
 */
export function changeConfig(config: ExecutionConfig, instructions: readonly string[]): ExecutionConfig {
  if (!Array.isArray(instructions) || !instructions.every((instruction) => typeof instruction === 'string')) {
    throw new InvalidArgumentError('changes must be a list of instructions, each of them text', {
      subject: 'changes',
      hint: 'For example changes: [\'CMD ["node", "main.js"]\', "ENV PORT=80"].',
    })
  }
  let changed = config
  for (const instruction of instructions) {
    const [, name = '', argument = ''] = /^\s*([A-Za-z]+)(?:\s+(.*))?$/s.exec(instruction) ?? []
    const change = changes.get(name.toUpperCase())
    const rest = argument.trimEnd()
    if (change === undefined) {
      throw invalid(
        instruction,
        `is no instruction that changes a config`,
        `Use one of ${[...changes.keys()].join(', ')}.`,
      )
    }
    if (rest === '') throw invalid(instruction, 'needs an argument')
    changed = change(changed, rest, variablesOf(changed))
  }
  return changed
}

const changes: ReadonlyMap<string, Change> = new Map<string, Change>([
  ['CMD', (config, rest) => ({ ...config, Cmd: command(config, rest) })],
  [
    'ENTRYPOINT',
    (config, rest) => {
      // Arguments of the old one mean nothing to the new one.
      const { Cmd: _, ...others } = config
      return { ...others, Entrypoint: command(config, rest) }
    },
  ],
  ['ENV', (config, rest, known) => ({ ...config, Env: withVariables(config.Env ?? [], pairs(rest, known)) })],
  ['EXPOSE', (config, rest, known) => ({ ...config, ExposedPorts: { ...config.ExposedPorts, ...ports(rest, known) } })],
  [
    'LABEL',
    (config, rest, known) => ({ ...config, Labels: { ...config.Labels, ...Object.fromEntries(pairs(rest, known)) } }),
  ],
  ['ONBUILD', (config, rest) => ({ ...config, OnBuild: [...(config.OnBuild ?? []), trigger(rest)] })],
  ['SHELL', (config, rest) => ({ ...config, Shell: shell(rest) })],
  ['STOPSIGNAL', (config, rest, known) => ({ ...config, StopSignal: stopSignal(expand(rest, known)) })],
  ['USER', (config, rest, known) => ({ ...config, User: expand(rest, known) })],
  ['VOLUME', (config, rest, known) => ({ ...config, Volumes: { ...config.Volumes, ...volumes(rest, known) } })],
  ['WORKDIR', (config, rest, known) => ({ ...config, WorkingDir: directory(config.WorkingDir, expand(rest, known)) })],
])

function variablesOf({ Env = [] }: ExecutionConfig): Variables {
  return new Map(
    Env.map((entry) => {
      const split = entry.indexOf('=')
      return split === -1 ? [entry, ''] : [entry.slice(0, split), entry.slice(split + 1)]
    }),
  )
}

/** A JSON array of strings is the command itself; anything else is for the shell. */
function command({ Shell }: ExecutionConfig, rest: string): readonly string[] {
  return jsonStrings(rest) ?? [...(Shell ?? ['/bin/sh', '-c']), rest]
}

function jsonStrings(text: string): readonly string[] | undefined {
  if (!text.startsWith('[')) return undefined
  try {
    const value: unknown = JSON.parse(text)
    return Array.isArray(value) && value.every((item) => typeof item === 'string') ? value : undefined
  } catch {
    return undefined
  }
}

/** `name=value …`, or in the old form a name and the rest of the line. */
function pairs(rest: string, variables: Variables): readonly (readonly [string, string])[] {
  const parts = rawWords(rest)
  const [first = ''] = parts
  if (!first.includes('=')) {
    const value = rest.slice(first.length).trim()
    if (value === '') throw invalid(rest, 'must have the form name=value')
    return [[expand(first, variables), expand(value, variables)]]
  }
  return parts.map((part) => {
    const split = part.indexOf('=')
    const name = split === -1 ? '' : expand(part.slice(0, split), variables)
    if (name === '') throw invalid(part, 'must have the form name=value')
    return [name, expand(part.slice(split + 1), variables)]
  })
}

function withVariables(env: readonly string[], added: readonly (readonly [string, string])[]): readonly string[] {
  const result = [...env]
  for (const [name, value] of added) {
    if (name.includes('\0') || value.includes('\0')) throw invalid(name, 'has a NUL byte in it')
    const index = result.findIndex((entry) => entry.startsWith(`${name}=`))
    if (index === -1) result.push(`${name}=${value}`)
    else result[index] = `${name}=${value}`
  }
  return result
}

/** `80`, `80/udp`, `8000-8010/tcp`. */
function ports(rest: string, variables: Variables): Readonly<Record<string, object>> {
  const exposed: Record<string, object> = {}
  for (const word of words(rest, variables)) {
    const [, from, to = from, protocol = 'tcp'] = /^(\d{1,5})(?:-(\d{1,5}))?(?:\/(tcp|udp|sctp))?$/i.exec(word) ?? []
    const [first, last] = [Number(from), Number(to)]
    if (from === undefined || first < 1 || last > 65_535 || last < first) throw invalid(word, 'is no port')
    for (let port = first; port <= last; port += 1) exposed[`${port}/${protocol.toLowerCase()}`] = {}
  }
  return exposed
}

function trigger(rest: string): string {
  const name = /^[A-Za-z]*/.exec(rest)?.[0].toUpperCase() ?? ''
  if (['ONBUILD', 'FROM', 'MAINTAINER'].includes(name)) throw invalid(`ONBUILD ${rest}`, `${name} can't be a trigger`)
  return rest
}

function shell(rest: string): readonly string[] {
  const strings = jsonStrings(rest)
  if (strings === undefined || strings.length === 0) throw invalid(rest, 'must be a JSON array of strings')
  return strings
}

function stopSignal(text: string): string {
  if (/^\d{1,2}$/.test(text) || /^(SIG)?[A-Z][A-Z0-9]*([+-]\d{1,2})?$/.test(text)) return text
  throw invalid(text, 'is no signal')
}

function volumes(rest: string, variables: Variables): Readonly<Record<string, object>> {
  const paths = jsonStrings(rest)?.map((path) => expand(path, variables)) ?? words(rest, variables)
  if (paths.length === 0 || paths.some((path) => path === '')) throw invalid(rest, 'must name a path')
  return Object.fromEntries(paths.map((path) => [path, {}]))
}

function directory(present: string | undefined, path: string): string {
  if (path === '') throw invalid(path, 'must name a path')
  return posix.resolve('/', present ?? '', path)
}

function invalid(subject: string, message: string, hint?: string): InvalidArgumentError {
  return new InvalidArgumentError(`${quote(subject)} ${message}`, { subject, hint })
}
