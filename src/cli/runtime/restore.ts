import { resolve } from 'node:path'
import { readBundle } from '../../bundle/index.ts'
import { restore } from '../../runtime/index.ts'
import type { Arguments } from '../arguments.ts'
import { attach } from '../attach.ts'
import { type Command, type Context, idOf } from '../command.ts'
import { bundleOptions } from './bundle-options.ts'
import { criuOptions, criuOptionsOf } from './criu-options.ts'

/** `oci-ts restore`. */
export const restoreCommand: Command = {
  summary: 'Makes a container of a checkpoint, by way of CRIU; it goes on where it was.',
  positionals: 'ID',
  count: [1, 1],
  options: {
    ...criuOptions,
    bundle: bundleOptions.bundle as NonNullable<typeof bundleOptions.bundle>,
    'pid-file': bundleOptions['pid-file'] as NonNullable<typeof bundleOptions.bundle>,
    detach: { kind: 'flag', short: 'd', help: 'Do not wait for the end of the program' },
    'lsm-profile': { kind: 'text', value: 'TYPE:NAME', help: 'Profile of SELinux or AppArmor that it gets' },
    'lsm-mount-context': { kind: 'text', value: 'CONTEXT', help: 'SELinux context that its mounts get' },
    'console-socket': bundleOptions['console-socket'] as NonNullable<typeof bundleOptions.bundle>,
    'no-subreaper': { kind: 'flag' },
    'no-pivot': { kind: 'flag' },
    'no-new-keyring': { kind: 'flag' },
  },
  run,
}

async function run(args: Arguments, context: Context): Promise<number> {
  const bundle = resolve(args.text('bundle') || '.')
  const detach = args.flag('detach')
  const container = await restore({
    ...criuOptionsOf(args, context),
    id: idOf(args),
    spec: await readBundle(bundle),
    bundle,
    stateRoot: context.stateRoot,
    stdio: [0, 1, 2],
    consoleSocket: args.text('console-socket') || undefined,
    handOver: detach,
    pidFile: args.text('pid-file') || undefined,
    accounting: process.geteuid?.() === 0,
    cgroup: !context.withoutCgroup,
    cgroupManager: context.systemdCgroup ? 'systemd' : 'cgroupfs',
    lsmProfile: args.text('lsm-profile') || undefined,
    lsmMountContext: args.text('lsm-mount-context') || undefined,
  })
  for (const warning of container.warnings) context.log.write('warning', warning)
  if (detach) {
    await container.release()
    return 0
  }
  const stop = attach(container)
  try {
    const { code } = await container.exited
    await container.delete({ force: true })
    return code
  } finally {
    await stop()
  }
}
