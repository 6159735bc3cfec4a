import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createSpec, type Spec } from '../../bundle/index.ts'
import { ConflictError } from '../../index.ts'
import type { Arguments } from '../arguments.ts'
import type { Command } from '../command.ts'

/** `oci-ts spec`. */
export const specCommand: Command = {
  summary: 'Writes a config.json to begin with: a shell in a terminal, set up as Docker would.',
  positionals: '',
  options: {
    bundle: {
      kind: 'text',
      short: 'b',
      value: 'DIR',
      help: 'Directory to write it to. Default: the working directory',
    },
    rootless: { kind: 'flag', help: 'For an ordinary user, who is root in a user namespace' },
  },
  run,
}

async function run(args: Arguments): Promise<number> {
  const path = join(args.text('bundle') || '.', 'config.json')
  if (existsSync(path)) {
    throw new ConflictError(path, `File ${path} exists. Remove it first`)
  }
  const spec = args.flag('rootless') ? forOrdinaryUser() : defaultSpec()
  writeFileSync(path, `${JSON.stringify(spec, undefined, '\t')}\n`, { flag: 'wx', mode: 0o666 })
  return 0
}

const options = { id: 'oci-ts', command: ['sh'], terminal: true } as const

function defaultSpec(): Spec {
  return createSpec(undefined, options)
}

/** With the network of the host, and no limits: an ordinary user may set up neither. */
function forOrdinaryUser(): Spec {
  const own = (hostID: number | undefined) => [{ containerID: 0, hostID: hostID ?? 0, size: 1 }]
  const { linux, ...spec } = createSpec(undefined, {
    ...options,
    network: 'host',
    userNamespace: { uidMappings: own(process.geteuid?.()), gidMappings: own(process.getegid?.()) },
  })
  const { resources: _, ...rest } = linux ?? {}
  return { ...spec, linux: rest }
}
