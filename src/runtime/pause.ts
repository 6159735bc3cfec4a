import { ConflictError } from '../errors.ts'
import { freeze, isFrozen, thaw } from './cgroups/freezer.ts'
import { locateCgroup } from './cgroups/location.ts'
import { type LookupOptions, statusOf } from './lookup.ts'
import { type ContainerRecord, defaultStateRoot, readRecord } from './state-directory.ts'

/** Options of {@link pause}. */
export interface PauseOptions extends LookupOptions {
  /** Aborting rejects with `signal.reason`; the container then goes on. */
  readonly signal?: AbortSignal | undefined
}

/**
 * Stops all processes of a container of any process where they are. Its status then is `paused`.
 * @throws NotFoundError when there is none of that id. @throws ConflictError unless it runs, or is created.
 * @throws UnsupportedError when it has no cgroup that can do it. @throws TimeoutError when the kernel can't stop them
 * within ten seconds; they go on then.
 */
export async function pause(id: string, options: PauseOptions = {}): Promise<void> {
  await pauseRecord(await readRecord(options.stateRoot ?? defaultStateRoot(), id), options.signal)
}

/**
 * Lets the processes of a paused container go on.
 * @throws NotFoundError when there is none of that id. @throws ConflictError when it is not paused.
 */
export async function resume(id: string, options: LookupOptions = {}): Promise<void> {
  await resumeRecord(await readRecord(options.stateRoot ?? defaultStateRoot(), id))
}

/** Pauses the container of a record. */
export async function pauseRecord(record: ContainerRecord, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted()
  const { id } = record
  const status = statusOf(record)
  if (status !== 'running' && status !== 'created') {
    throw new ConflictError(id, `container ${id} can't be paused: it is ${status}`)
  }
  const location = locateCgroup(record.cgroups)
  if (isFrozen(location)) throw new ConflictError(id, `container ${id} is paused already`)
  await freeze(location, signal)
}

/** Resumes the container of a record. */
export async function resumeRecord(record: ContainerRecord): Promise<void> {
  const { id } = record
  const location = locateCgroup(record.cgroups)
  if (!isFrozen(location)) throw new ConflictError(id, `container ${id} is not paused`)
  await thaw(location)
}
