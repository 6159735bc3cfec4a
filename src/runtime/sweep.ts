import { join } from 'node:path'
import { ConflictError, NotFoundError } from '../errors.ts'
import { removeCgroup } from './cgroups/remove.ts'
import { removeResctrl } from './resctrl.ts'
import { removeRootMount } from './root-mount.ts'
import { type ContainerRecord, listIds, readRecord, StateDirectory } from './state-directory.ts'
import { stopScope } from './systemd/scope.ts'

const swept = new Map<string, Promise<void>>()

/**
 * Milliseconds after which what was held is looked at again, and after that once more: a process whose maker was killed lets go
 * of a container when it is its turn on a busy machine.
 */
const pauses: readonly number[] = [1000, 4000]

/**
 * Removes what processes that were killed left below `root`: once per process and root. Containers die
 * with the process that made them, and their monitors remove what is left; this is for when those were
 * killed, too.
 */
export function sweep(root: string): Promise<void> {
  let done = swept.get(root)
  if (done === undefined) {
    done = sweepAll(root)
    swept.set(root, done)
  }
  return done
}

/** Makes the directory of a new container; one of that id that nobody holds any more is removed. */
export async function claim(root: string, id: string): Promise<StateDirectory> {
  try {
    return StateDirectory.create(root, id)
  } catch (cause) {
    if (!(cause instanceof ConflictError) || (await sweepOne(root, id)) !== 'removed') throw cause
    return StateDirectory.create(root, id)
  }
}

async function sweepAll(root: string): Promise<void> {
  sweepLater(root, await sweepEach(root, await listIds(root)))
}

/** @returns those that somebody holds. */
async function sweepEach(root: string, ids: readonly string[]): Promise<readonly string[]> {
  const held: string[] = []
  for (const id of ids) if ((await sweepOne(root, id)) === 'held') held.push(id)
  return held
}

/** Without keeping this process alive: the next one sweeps, too. */
function sweepLater(root: string, held: readonly string[], attempt = 0): void {
  const pause = pauses[attempt]
  if (held.length === 0 || pause === undefined) return
  const again = async (): Promise<void> => sweepLater(root, await sweepEach(root, held), attempt + 1)
  setTimeout(() => void again().catch(() => {}), pause).unref()
}

/** Removes what is left of one container, unless somebody holds it, or it is one to be deleted. */
export async function sweepOne(root: string, id: string): Promise<'removed' | 'held' | 'kept'> {
  // One that was meant to outlive its maker is there until somebody deletes it; who starts it at this moment needs the lock.
  const before = await recorded(root, id)
  if (before === 'unknown' || before?.outlive === true) return 'kept'
  const directory = StateDirectory.tryLock(join(root, id))
  if (directory === undefined) return 'held'
  try {
    // Without a record its maker died before it had made anything, or a monitor has left what others have added.
    const record = await recorded(root, id)
    if (record === 'unknown' || record?.outlive === true) return 'kept'
    await removeCgroup(record?.cgroups ?? directory.joined)
    await removeResctrl(record?.resctrl)
    // Its cgroup is gone, and with that the unit will be.
    await stopScope(record?.scope).catch(() => {})
    removeRootMount(record?.rootMount)
    directory.remove()
    return 'removed'
  } finally {
    directory.release()
  }
}

/** What is recorded of a container; `unknown` for what this version has not written: what is to be removed then, nobody knows. */
async function recorded(root: string, id: string): Promise<ContainerRecord | 'unknown' | undefined> {
  return readRecord(root, id).catch((error: unknown) => (error instanceof NotFoundError ? undefined : 'unknown'))
}
