import type { ContainerStatus, State } from '../bundle/state.ts'
import { isFrozen } from './cgroups/freezer.ts'
import { locateCgroup } from './cgroups/location.ts'
import { isRunning } from './processes.ts'
import { type ContainerRecord, defaultStateRoot, listIds, readRecord } from './state-directory.ts'

/** Where to look for containers. */
export interface LookupOptions {
  /** Where they are recorded. Default `/run/oci-ts`, or below `$XDG_RUNTIME_DIR` without root. */
  readonly stateRoot?: string | undefined
}

/**
 * The state of a container of any process (runtime-spec, runtime.md, "State").
 * @throws NotFoundError when there is none of that id.
 */
export async function state(id: string, options: LookupOptions = {}): Promise<State> {
  return stateOf(await readRecord(options.stateRoot ?? defaultStateRoot(), id))
}

/** The states of all containers that are recorded, by id. */
export async function listContainers(options: LookupOptions = {}): Promise<readonly State[]> {
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

function stateOf(record: ContainerRecord): State {
  const { ociVersion, id, bundle, annotations } = record
  const status = statusOf(record)
  const pid = status === 'created' || status === 'running' ? { pid: record.pid } : {}
  const isPaused = status === 'running' && isFrozen(locateCgroup(record.cgroups))
  return {
    ociVersion,
    id,
    status: isPaused ? 'paused' : status,
    ...pid,
    bundle,
    ...(annotations === undefined ? {} : { annotations }),
  }
}
