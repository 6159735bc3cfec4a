import { resolve } from 'node:path'
import { readBundle, type Spec } from '../../bundle/index.ts'
import { type CreateOptions, createContainer, type RuntimeContainer } from '../../runtime/index.ts'
import type { Arguments, Options } from '../arguments.ts'
import { type Context, idOf } from '../command.ts'
import { listeningSockets, preservedOf } from '../inherited.ts'

/** Options that `create` and `run` have in common. */
export const bundleOptions: Options = {
  bundle: { kind: 'text', short: 'b', value: 'DIR', help: 'Directory of config.json. Default: the working directory' },
  'console-socket': { kind: 'text', value: 'PATH', help: 'Socket that gets the master of the terminal' },
  'pidfd-socket': { kind: 'text', value: 'PATH', help: 'Socket that gets a pidfd of the first process' },
  'pid-file': { kind: 'text', value: 'FILE', help: 'File to write the pid of the first process to' },
  'no-pivot': { kind: 'flag', help: 'Do without pivot_root, which a root on a ramdisk refuses' },
  'no-new-keyring': { kind: 'flag', help: 'Keep the session keyring of the caller' },
  'preserve-fds': { kind: 'text', value: 'N', help: 'Hand N descriptors, from 3 on, to the program' },
}

/** Makes the container that the command line describes. */
export async function createFrom(
  args: Arguments,
  context: Context,
  options: Partial<CreateOptions> = {},
): Promise<RuntimeContainer> {
  const bundle = resolve(args.text('bundle') || '.')
  const sockets = listeningSockets()
  const spec = withVariables(await readBundle(bundle), sockets.env)
  const container = await createContainer({
    id: idOf(args),
    spec,
    bundle,
    stateRoot: context.stateRoot,
    stdio: [0, 1, 2],
    pidFile: args.text('pid-file') || undefined,
    noPivot: args.flag('no-pivot'),
    newKeyring: !args.flag('no-new-keyring'),
    preserveFds: Math.max(preservedOf(args), sockets.count),
    consoleSocket: args.text('console-socket') || undefined,
    pidfdSocket: args.text('pidfd-socket') || undefined,
    // As engines expect, which count what the container uses. An ordinary user has no cgroups for that.
    accounting: process.geteuid?.() === 0,
    cgroup: !context.withoutCgroup,
    cgroupManager: context.systemdCgroup ? 'systemd' : 'cgroupfs',
    ...options,
  })
  for (const warning of container.warnings) context.log.write('warning', warning)
  return container
}

function withVariables(spec: Spec, added: readonly string[]): Spec {
  if (added.length === 0 || spec.process === undefined) return spec
  return { ...spec, process: { ...spec.process, env: [...(spec.process.env ?? []), ...added] } }
}
