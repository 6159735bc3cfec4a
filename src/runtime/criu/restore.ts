import { mkdirSync } from 'node:fs'
import { basename, isAbsolute, join } from 'node:path'
import type { Spec } from '../../bundle/spec.ts'
import { UnsupportedError } from '../../errors.ts'
import { hostHierarchies } from '../cgroups/hierarchies.ts'
import { locateCgroup } from '../cgroups/location.ts'
import { directoriesOf } from '../cgroups/plan.ts'
import type { RuntimeContainer } from '../container.ts'
import type { CreateOptions } from '../create.ts'
import { isDevice } from '../devices.ts'
import { outlives } from '../exec.ts'
import { rootfsOf } from '../facts.ts'
import { thisHost } from '../host.ts'
import { type Plan, planContainer } from '../plan.ts'
import { defaultStateRoot } from '../state-directory.ts'
import { stepFailed } from '../step-error.ts'
import { claim, sweep } from '../sweep.ts'
import { type Scope, scopeOf } from '../systemd/scope.ts'
import { refuseUnsupported } from './checkpoint.ts'
import { HostTerminal } from './host-terminal.ts'
import { type CheckpointNote, type ExternalMount, readNote } from './note.ts'
import { type CriuOptions, commonArguments, consolePoint, namespaceKeys } from './options.ts'
import { findCriu } from './program.ts'
import { Restoration, terminalNumber } from './restoration.ts'

/** Options of {@link restore}: those of createContainer that have a meaning for it, and those of CRIU. */
export interface RestoreOptions
  extends CriuOptions,
    Pick<
      CreateOptions,
      | 'id'
      | 'spec'
      | 'bundle'
      | 'overlay'
      | 'stdio'
      | 'consoleSocket'
      | 'detach'
      | 'handOver'
      | 'accounting'
      | 'cgroup'
      | 'cgroupManager'
      | 'stateRoot'
      | 'pidFile'
      | 'hooks'
    > {
  /** SELinux or AppArmor profile that the processes get instead of their own: `type:name`. */
  readonly lsmProfile?: string | undefined
  /** SELinux context that mounts get. */
  readonly lsmMountContext?: string | undefined
}

/** Numbers that descriptors for CRIU have: its standard streams are its own. */
const firstStream = 400
const firstNamespace = 410

/**
 * Makes a container of a checkpoint, by way of CRIU: it goes on where it was. Its root and its bind mounts must have the
 * same files; pipes and files that its standard streams led to are replaced by `stdio`, its terminal by a new one. Of the
 * hooks those of `poststart` and `poststop` are run.
 * @throws NotFoundError for a directory that is no checkpoint. @throws SpecError, LimitError for one whose oci-ts.json is
 * malformed. @throws ConflictError when the id is in use.
 * @throws UnsupportedError where CRIU is missing or does not work. @throws RuntimeError for what it can't restore; nothing
 * is left behind.
 */
export async function restore(options: RestoreOptions): Promise<RuntimeContainer> {
  const { id, spec, signal } = options
  signal?.throwIfAborted()
  refuseUnsupported(spec)
  const program = findCriu(options.criu)
  const note = readNote(options.imagePath)
  const root = options.stateRoot ?? defaultStateRoot()
  await sweep(root)
  const directory = await claim(root, id)
  let restoration: Restoration
  let terminal: HostTerminal | undefined
  try {
    if (note.terminal !== undefined) terminal = new HostTerminal(spec, note.terminal)
    const bySystemd = options.cgroupManager === 'systemd' && options.cgroup !== false
    const plan = planOf(options, bySystemd ? await scopeOf(id, spec) : undefined)
    const workPath = options.workPath ?? options.imagePath
    mkdirSync(workPath, { recursive: true, mode: 0o700 })
    const pidFile = join(directory.path, 'criu.pid')
    const args = [program, ...restoreArguments(options, plan, note, terminal), '--pidfile', pidFile]
    const streams = note.streams.map((stream, index) => (stream === null ? undefined : firstStream + index))
    const namespaces = joinedNamespaces(spec).map(({ path }, index) => ({ path, number: firstNamespace + index }))
    restoration = new Restoration(options, plan, directory, {
      program,
      args,
      pidFile,
      log: join(workPath, logName),
      streams,
      namespaces,
      terminal,
    })
  } catch (cause) {
    terminal?.close()
    directory.remove()
    throw cause
  }
  try {
    return await restoration.run()
  } catch (cause) {
    await restoration.undo()
    signal?.throwIfAborted()
    throw stepFailed(id, cause)
  } finally {
    terminal?.close()
  }
}

const logName = 'restore.log'

function planOf(options: RestoreOptions, scope: Scope | undefined): Plan {
  const { id, spec, bundle, overlay, accounting, cgroup } = options
  const own = { outlive: outlives(options), host: thisHost(), scope }
  return planContainer({ id, spec, bundle, overlay, accounting, cgroup, ...own })
}

function restoreArguments(
  options: RestoreOptions,
  plan: Plan,
  note: CheckpointNote,
  terminal: HostTerminal | undefined,
): readonly string[] {
  const { spec, lsmProfile, lsmMountContext } = options
  const cgroups = directoriesOf(plan.cgroup)
  const streams = note.streams.flatMap((stream, index) => {
    // As CRIU writes them: `pipe:[1]`, `file[1:2]`.
    return stream === null ? [] : ['--inherit-fd', `fd[${firstStream + index}]:${stream}`]
  })
  const namespaces = joinedNamespaces(spec).flatMap(({ type }, index) => [
    ...['--inherit-fd', `fd[${firstNamespace + index}]:${namespaceKeys[type]}`],
  ])
  return [
    'restore',
    ...commonArguments(options, logName),
    // It ends when all is restored, and leaves the first process to whoever made it.
    ...['--restore-detached', '--restore-sibling'],
    ...['--root', rootfsOf(options)],
    ...cgroupRoots(cgroups),
    ...note.mounts.flatMap((mount) => {
      const source = mount.point === consolePoint ? terminal?.path : undefined
      return ['--external', `mnt[${mount.point}]:${source ?? sourceOf(mount, options, cgroups)}`]
    }),
    ...(note.terminal === undefined ? [] : ['--inherit-fd', `fd[${terminalNumber}]:${note.terminal.name}`]),
    ...streams,
    ...namespaces,
    ...(lsmProfile === undefined ? [] : ['--lsm-profile', lsmProfile]),
    ...(lsmMountContext === undefined ? [] : ['--lsm-mount-context', lsmMountContext]),
    ...(options.lazyPages === true ? ['--lazy-pages'] : []),
  ]
}

function joinedNamespaces(spec: Spec): readonly { readonly type: string; readonly path: string }[] {
  return (spec.linux?.namespaces ?? []).flatMap(({ type, path }) => {
    return path && namespaceKeys[type] !== undefined ? [{ type, path }] : []
  })
}

/** Where the cgroups of the processes begin now. */
function cgroupRoots(directories: readonly string[]): readonly string[] {
  const { v1, v2 } = hostHierarchies()
  const below = (mountPoint: string): string | undefined =>
    directories.find((directory) => directory.startsWith(`${mountPoint}/`))?.slice(mountPoint.length)
  const roots = v1.flatMap(({ mountPoint, controllers }) => {
    const path = below(mountPoint)
    return path === undefined ? [] : controllers.map((controller) => `${controller}:${path}`)
  })
  const alone = v1.length === 0 && v2 !== undefined ? below(v2.mountPoint) : undefined
  return [...roots, ...(alone === undefined ? [] : [alone])].flatMap((path) => ['--cgroup-root', path])
}

/** What of the host is mounted again on a mount point. */
function sourceOf(mount: ExternalMount, { spec, bundle }: RestoreOptions, cgroups: readonly string[]): string {
  const { point, destination } = mount
  const bound = spec.mounts?.findLast((each) => each.destination === destination)
  if (destination !== undefined && bound?.source !== undefined) {
    return isAbsolute(bound.source) ? bound.source : join(bundle, bound.source)
  }
  if (destination !== undefined) throw notInConfig(destination)
  const cgroup = spec.mounts?.find(({ type, destination }) => {
    return type?.startsWith('cgroup') === true && `${point}/`.startsWith(`${destination}/`)
  })
  if (cgroup !== undefined) return cgroupSource(point, cgroup.destination, cgroups)
  if (spec.linux?.maskedPaths?.includes(point) === true) return '/dev/null'
  if (isDevice(point, spec)) return point
  throw notInConfig(point)
}

function cgroupSource(point: string, destination: string, directories: readonly string[]): string {
  const { v1, v2 } = hostHierarchies()
  const location = locateCgroup(directories)
  const name = basename(point)
  const hierarchy = v1.find(({ mountPoint }) => basename(mountPoint) === name)
  const isV2 = point === destination || hierarchy === undefined
  if (isV2) return location.v2 ?? v2?.mountPoint ?? '/sys/fs/cgroup'
  const own = hierarchy.controllers.map((controller) => location.v1.get(controller)).find((path) => path !== undefined)
  return own ?? hierarchy.mountPoint
}

function notInConfig(point: string): UnsupportedError {
  return new UnsupportedError(`the mount on ${point}`, 'the checkpoint has it, and the config does not', {
    hint: 'Restore with the config of the checkpoint.',
  })
}
