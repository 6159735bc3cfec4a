#!/usr/bin/env node
import { createRequire } from 'node:module'
import { parseArgs } from 'node:util'
import { type ImageCommand, imageCommands } from './images/commands.ts'
import { planCommand } from './plan.ts'
import { registryCommand } from './registry.ts'

const usage = `Usage: oci-ts <command> [options]

Commands:
  plan       Print the system calls that would create and start the container of a bundle
  registry   Run a registry, or a cache in front of one
${Object.entries(imageCommands)
  .map(([name, { summary }]) => `  ${name.padEnd(10)} ${summary}`)
  .join('\n')}

Options:
  --help     Print this, or with a command what it does
  --version  Print the version
`

const commands: Readonly<Record<string, (args: readonly string[]) => Promise<string>>> = {
  plan: planCommand,
  registry: registryCommand,
}

/** Runs a command line. @returns what to print. @throws OciError, and an error of parseArgs for unknown options. */
async function main(args: readonly string[]): Promise<string> {
  const [name = '', ...rest] = args
  if (Object.hasOwn(imageCommands, name)) return (imageCommands[name] as ImageCommand).run(rest)
  if (Object.hasOwn(commands, name)) return (commands[name] as (typeof commands)[string])(rest)
  const { values, positionals } = parseArgs({
    args: [...args],
    options: { help: { type: 'boolean', short: 'h' }, version: { type: 'boolean', short: 'v' } },
    allowPositionals: true,
  })
  const [unknown] = positionals
  if (unknown !== undefined) {
    process.stderr.write(`oci-ts: there is no command ${JSON.stringify(unknown)}\n`)
    process.exitCode = 1
    return ''
  }
  if (values.version !== true) return usage
  const { version } = createRequire(import.meta.url)('../../package.json') as { readonly version: string }
  return `${version}\n`
}

main(process.argv.slice(2)).then(
  (text) => process.stdout.write(text),
  (error: unknown) => {
    // What the user did, or the machine can't do, needs no stack.
    const { code, message, stack } = error as NodeJS.ErrnoException
    const plain = code?.startsWith('ERR_OCI_') === true || code?.startsWith('ERR_PARSE_ARGS_') === true
    process.stderr.write(`oci-ts: ${plain ? message : (stack ?? String(error))}\n`)
    process.exitCode = 1
  },
)
