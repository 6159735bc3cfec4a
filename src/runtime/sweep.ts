import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { removeCgroup } from './cgroups/cgroup.ts'
import { type ContainerRecord, listIds, readRecord, StateDirectory } from './state-directory.ts'

/** A directory without a record is one that is just being made, unless it is as old as this. Milliseconds. */
const graceTime = 60_000

const swept = new Map<string, Promise<void>>()

/**
 * Removes what processes that were killed left below `root`: once per process and root. Containers die
 * with the process that made them; their cgroups and records do not.
 */
export function sweep(root: string): Promise<void> {
  let done = swept.get(root)
  if (done === undefined) {
    done = sweepAll(root)
    swept.set(root, done)
  }
  return done
}

async function sweepAll(root: string): Promise<void> {
  for (const id of await listIds(root)) await sweepOne(root, id)
}

async function sweepOne(root: string, id: string): Promise<void> {
  const path = join(root, id)
  let record: ContainerRecord | undefined
  try {
    record = await readRecord(root, id)
  } catch {
    const age =
      Date.now() -
      (await stat(path).then(
        (s) => s.mtimeMs,
        () => Date.now(),
      ))
    if (age < graceTime) return
  }
  // One that was meant to outlive its maker is there until somebody deletes it.
  if (record?.outlive === true) return
  const directory = StateDirectory.tryLock(path)
  if (directory === undefined) return
  await removeCgroup(record?.cgroups ?? [])
  directory.remove()
}
