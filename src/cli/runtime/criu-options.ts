import { resolve } from 'node:path'
import { InvalidArgumentError } from '../../index.ts'
import type { CriuOptions } from '../../runtime/index.ts'
import type { Arguments, Options } from '../arguments.ts'
import type { Context } from '../command.ts'

/** Options that `checkpoint` and `restore` have in common. */
export const criuOptions: Options = {
  'image-path': { kind: 'text', value: 'DIR', help: 'Directory of the checkpoint. Default: checkpoint' },
  'work-path': { kind: 'text', value: 'DIR', help: 'Directory of the logs. Default: that of the checkpoint' },
  'tcp-established': { kind: 'flag', help: 'Keep open TCP connections' },
  'ext-unix-sk': { kind: 'flag', help: 'Cut Unix sockets that lead out of the container' },
  'shell-job': { kind: 'flag', help: 'It has a session, or a terminal, of somebody outside' },
  'file-locks': { kind: 'flag', help: 'Keep locks of files' },
  'lazy-pages': { kind: 'flag', help: 'Serve memory, or fetch it, when it is asked for' },
  'manage-cgroups-mode': { kind: 'text', value: 'MODE', help: 'soft, full, strict or ignore. Default: soft' },
  'empty-ns': { kind: 'texts', value: 'TYPE', help: 'Namespace of which nothing is kept: network' },
  'auto-dedup': { kind: 'flag', help: 'Remove from earlier checkpoints what this one has' },
}

/** What they ask for. */
export function criuOptionsOf(args: Arguments, { criu }: Context): CriuOptions {
  return {
    imagePath: resolve(args.text('image-path') || 'checkpoint'),
    workPath: args.text('work-path') ? resolve(args.text('work-path') as string) : undefined,
    tcpEstablished: args.flag('tcp-established'),
    externalUnixSockets: args.flag('ext-unix-sk'),
    shellJob: args.flag('shell-job'),
    fileLocks: args.flag('file-locks'),
    lazyPages: args.flag('lazy-pages'),
    manageCgroups: modeOf(args.text('manage-cgroups-mode')),
    emptyNamespaces: args.texts('empty-ns'),
    autoDedup: args.flag('auto-dedup'),
    criu,
  }
}

function modeOf(mode = ''): CriuOptions['manageCgroups'] {
  if (mode === '') return undefined
  if (mode === 'soft' || mode === 'full' || mode === 'strict' || mode === 'ignore') return mode
  throw new InvalidArgumentError(`--manage-cgroups-mode is soft, full, strict or ignore, not ${JSON.stringify(mode)}`, {
    subject: mode,
  })
}
