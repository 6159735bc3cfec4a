import { join } from 'node:path'
import { ConflictError } from '../errors.ts'
import { removeCgroup } from './cgroups/remove.ts'
import { removeResctrl } from './resctrl.ts'
import { removeRootMount } from './root-mount.ts'
import { listIds, readRecord, StateDirectory } from './state-directory.ts'
import { stopScope } from './systemd/scope.ts'

const swept = new Map<string, Promise<void>>()

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
    if (!(cause instanceof ConflictError) || !(await sweepOne(root, id))) throw cause
    return StateDirectory.create(root, id)
  }
}

async function sweepAll(root: string): Promise<void> {
  for (const id of await listIds(root)) await sweepOne(root, id)
}

/** Removes what is left of one container. @returns whether it was removed. */
export async function sweepOne(root: string, id: string): Promise<boolean> {
  const directory = StateDirectory.tryLock(join(root, id))
  if (directory === undefined) return false
  try {
    // Without a record its maker died before it had made anything.
    const record = await readRecord(root, id).catch(() => undefined)
    // One that was meant to outlive its maker is there until somebody deletes it.
    if (record?.outlive === true) return false
    await removeCgroup(record?.cgroups ?? [])
    await removeResctrl(record?.resctrl)
    // Its cgroup is gone, and with that the unit will be.
    await stopScope(record?.scope).catch(() => {})
    removeRootMount(record?.rootMount)
    directory.remove()
    return true
  } finally {
    directory.release()
  }
}
