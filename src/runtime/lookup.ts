import type { Spec } from '../bundle/spec.ts'
import type { ContainerStatus, State } from '../bundle/state.ts'
import { isFrozen } from './cgroups/freezer.ts'
import { locateCgroup } from './cgroups/location.ts'
import { isRunning } from './processes.ts'
import { type ContainerRecord, defaultStateRoot, listIds, readConfig, readRecord } from './state-directory.ts'

/** Where to look for containers. */
export interface LookupOptions {
  /** Where they are recorded. Default `/run/oci-ts`, or below `$XDG_RUNTIME_DIR` without root of the host. */
  readonly stateRoot?: string | undefined
}

/** What is known of a container: its state, and more that callers of runc expect there. */
export interface ContainerState extends State {
  /** Absolute path of its root filesystem. */
  readonly rootfs: string
  /** When it was made (RFC 3339). */
  readonly created: string
  /** Uid of who made it. */
  readonly owner: number
}

/**
 * The state of a container of any process (runtime-spec, runtime.md, "State").
 * @throws NotFoundError when there is none of that id. @throws SpecError when another version has recorded it.
 */
export async function state(id: string, options: LookupOptions = {}): Promise<ContainerState> {
  return stateOf(await readRecord(options.stateRoot ?? defaultStateRoot(), id))
}

/** The states of all containers that are recorded, by id. */
export async function listContainers(options: LookupOptions = {}): Promise<readonly ContainerState[]> {
  const root = options.stateRoot ?? defaultStateRoot()
  const ids = [...(await listIds(root))].sort()
  // One may be deleted while the list is made.
  const records = await Promise.all(ids.map((id) => readRecord(root, id).catch(() => undefined)))
  return records.flatMap((record) => (record === undefined ? [] : [stateOf(record)]))
}

/** Status of a container by its record and its first process. */
export function statusOf(record: ContainerRecord): ContainerStatus {
  if (record.pid === 0) return 'creating'
  if (!isRunning(record.pid, record.startTime)) return 'stopped'
  return record.started ? 'running' : 'created'
}

function stateOf(record: ContainerRecord): ContainerState {
  const { ociVersion, id, bundle, rootfs, owner, annotations } = record
  const status = statusOf(record)
  const pid = status === 'created' || status === 'running' ? { pid: record.pid } : {}
  const isPaused = status === 'running' && isFrozen(locateCgroup(record.cgroups))
  return {
    ociVersion,
    id,
    status: isPaused ? 'paused' : status,
    ...pid,
    bundle,
    rootfs,
    created: new Date(record.created).toISOString(),
    owner,
    ...(annotations === undefined ? {} : { annotations }),
  }
}

/**
 * The config that a container of any process was made with.
 * @throws NotFoundError when there is none of that id. @throws SpecError when another version has recorded it.
 */
export async function containerSpec(id: string, options: LookupOptions = {}): Promise<Spec> {
  return readConfig(options.stateRoot ?? defaultStateRoot(), id)
}
