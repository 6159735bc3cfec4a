import { mkdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Spec } from '../../bundle/spec.ts'
import { ConflictError, UnsupportedError } from '../../errors.ts'
import { locateCgroup } from '../cgroups/location.ts'
import { type LookupOptions, statusOf } from '../lookup.ts'
import { type ContainerRecord, defaultStateRoot, readConfig, readRecord } from '../state-directory.ts'
import { untilEnded } from '../wait.ts'
import { externalMounts, externalStreams, externalTerminal } from './external.ts'
import { forgetExternalFiles, forgetParent } from './images.ts'
import { type CheckpointNote, writeNote } from './note.ts'
import { type CriuOptions, commonArguments, namespaceKeys } from './options.ts'
import { criuFailed, findCriu, runCriu } from './program.ts'

/** Options of {@link checkpoint}. */
export interface CheckpointOptions extends CriuOptions {
  /** Whether the container goes on. Default false: it has ended then. */
  readonly leaveRunning?: boolean | undefined
  /** Whether only its memory is saved, and it goes on: the next checkpoint takes less time. Default false. */
  readonly preDump?: boolean | undefined
  /** Directory of an earlier one, relative to that of the images: what has not changed since is not saved again. */
  readonly parentPath?: string | undefined
  /** `address:port` of a page server of CRIU, which gets the memory. Default: it is in the images. */
  readonly pageServer?: string | undefined
  /** Whether TCP connections that are not open yet are left out. Default false: with one, it fails. */
  readonly skipTcpInFlight?: boolean | undefined
}

/**
 * Saves a running container of any process to files, by way of CRIU, from which {@link restore} makes it again. The
 * files of its root and of bind mounts are not part of that.
 * @throws NotFoundError when there is none of that id. @throws ConflictError when it does not run.
 * @throws UnsupportedError where CRIU is missing or does not work, and for a container without a mount namespace.
 * @throws RuntimeError for what CRIU can't save; the container goes on.
 */
export async function checkpoint(id: string, options: CheckpointOptions & LookupOptions): Promise<void> {
  const root = options.stateRoot ?? defaultStateRoot()
  await checkpointRecord(await readRecord(root, id), await readConfig(root, id), options)
}

/** Checkpoints the container of a record. */
export async function checkpointRecord(record: ContainerRecord, spec: Spec, options: CheckpointOptions): Promise<void> {
  const { id, pid } = record
  const { signal, imagePath, preDump = false } = options
  signal?.throwIfAborted()
  if (statusOf(record) !== 'running') throw new ConflictError(id, `container ${id} is not running`)
  refuseUnsupported(spec)
  const program = findCriu(options.criu)
  mkdirSync(imagePath, { recursive: true, mode: 0o700 })
  if (options.workPath !== undefined) mkdirSync(options.workPath, { recursive: true, mode: 0o700 })
  const terminal = spec.process?.terminal === true ? externalTerminal(pid) : undefined
  const mounts = externalMounts(pid, spec, terminal !== undefined)
  const note: CheckpointNote = { streams: externalStreams(pid), mounts, terminal }
  // The last one is that of the innermost pid namespace (proc_pid_status(5)), by which CRIU names its images.
  const innerPid = Number(/^NSpid:.*?(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? pid)
  const stdio: (number | 'ignore' | 'pipe')[] = ['ignore', 'pipe', 'pipe']
  if (options.statusFd !== undefined) stdio.push(options.statusFd)
  const args = dumpArguments(record, spec, options, note)
  const { code, output } = await runCriu(program, args, { stdio })
  if (code !== 0) {
    const log = join(options.workPath ?? imagePath, logName)
    throw await criuFailed(program, { id, step: 'save the container', log, output })
  }
  if (preDump) return
  if (note.streams.some((stream) => stream?.startsWith('file[') === true)) forgetExternalFiles(imagePath)
  forgetParent(imagePath, innerPid)
  writeNote(imagePath, note)
  if (options.leaveRunning !== true) await untilEnded(record, undefined)
}

const logName = 'dump.log'

function dumpArguments(
  record: ContainerRecord,
  spec: Spec,
  options: CheckpointOptions,
  note: CheckpointNote,
): readonly string[] {
  const { pid, cgroups, rootfs } = record
  const { v1, v2 } = locateCgroup(cgroups)
  const freezer = v1.get('freezer') ?? v2
  const [address, port] = options.pageServer?.split(/:(?=\d+$)/) ?? []
  const incremental = options.preDump === true || options.parentPath !== undefined
  return [
    options.preDump === true ? 'pre-dump' : 'dump',
    ...['--tree', String(pid), ...commonArguments(options, logName)],
    ...(freezer === undefined ? [] : ['--freeze-cgroup', freezer]),
    ...(incremental ? ['--track-mem'] : []),
    ...(options.parentPath === undefined ? [] : ['--prev-images-dir', options.parentPath]),
    ...(options.leaveRunning === true && options.preDump !== true ? ['--leave-running'] : []),
    ...(options.lazyPages === true ? ['--lazy-pages'] : []),
    ...(options.skipTcpInFlight === true ? ['--skip-in-flight'] : []),
    ...(options.statusFd === undefined ? [] : ['--status-fd', '3']),
    ...(address === undefined ? [] : ['--page-server', '--address', address, '--port', port ?? '0']),
    ...(options.preDump === true ? [] : ['--root', rootfs, ...externals(pid, spec, note)]),
  ]
}

function externals(pid: number, spec: Spec, { mounts, streams, terminal }: CheckpointNote): readonly string[] {
  const joined = (spec.linux?.namespaces ?? []).filter(({ path }) => path !== undefined && path !== '')
  const names = { network: 'net', pid: 'pid' }
  return [
    ...mounts.map(({ point }) => `mnt[${point}]:${point}`),
    ...new Set(streams.filter((stream) => stream?.startsWith('file[') === true)),
    ...(terminal === undefined ? [] : [terminal.name]),
    ...joined.flatMap(({ type }) => {
      const name = type === 'network' || type === 'pid' ? names[type] : undefined
      return name === undefined ? [] : [`${name}[${statSync(`/proc/${pid}/ns/${name}`).ino}]:${namespaceKeys[type]}`]
    }),
  ].flatMap((external) => ['--external', external as string])
}

/** @throws UnsupportedError for what has no way to be saved, or restored. */
export function refuseUnsupported(spec: Spec): void {
  const feature = 'checkpoint and restore'
  if (spec.linux?.namespaces?.some(({ type }) => type === 'mount') !== true) {
    throw new UnsupportedError(feature, 'the container has no mount namespace of its own')
  }
}
