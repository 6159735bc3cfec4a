import { join } from 'node:path'
import type { LinuxResources } from '../bundle/spec-resources.ts'
import { ConflictError } from '../errors.ts'
import { hostHierarchies } from './cgroups/hierarchies.ts'
import { joinMissing } from './cgroups/late-join.ts'
import { locateCgroup } from './cgroups/location.ts'
import { removeCgroup } from './cgroups/remove.ts'
import { planResources } from './cgroups/resources.ts'
import { updateCgroup, withPresent } from './cgroups/update.ts'
import { tellJoined } from './joined-cgroups.ts'
import { type LookupOptions, statusOf } from './lookup.ts'
import { type ContainerRecord, defaultStateRoot, notFound, readRecord } from './state-directory.ts'
import { limitProperties } from './systemd/limits.ts'
import { changeScope } from './systemd/scope.ts'

/**
 * Changes limits of a container of any process, while it runs. What `resources` do not name stays as it is; 0 stands
 * for that as well where it is no limit (memory, shares, quota, period). When one can't be set none is changed.
 * @throws NotFoundError when there is none of that id. @throws ConflictError when it has stopped, and for a memory limit
 * below what is used, with checkBeforeUpdate. @throws RuntimeError naming the file, the value and the field.
 * @throws UnsupportedError for what this host has no controller for.
 */
export async function update(id: string, resources: LinuxResources, options: LookupOptions = {}): Promise<void> {
  const root = options.stateRoot ?? defaultStateRoot()
  await updateRecord(root, await readRecord(root, id), resources)
}

/** Changes limits of the container of a record. @returns the directories that its cgroup has now. */
export async function updateRecord(
  root: string,
  record: ContainerRecord,
  resources: LinuxResources,
): Promise<readonly string[]> {
  const { id } = record
  const status = statusOf(record)
  if (status === 'stopped' || status === 'creating') {
    throw new ConflictError(id, `container ${id} can't be updated: it is ${status}`)
  }
  const hierarchies = hostHierarchies()
  const made = await joinMissing(id, locateCgroup(record.cgroups), resources, hierarchies)
  const cgroups = [...record.cgroups, ...made]
  // Before anything else can fail: whoever removes the container must know of them.
  if (made.length > 0) await recordJoined(root, id, made)
  const location = locateCgroup(cgroups)
  await updateCgroup(id, location, resources, hierarchies)
  if (record.scope !== undefined) {
    const limits = planResources(withPresent(location, resources), hierarchies)
    await changeScope(record.scope, (version) => limitProperties(limits, version))
    // Systemd has set them as it rounds them.
    await updateCgroup(id, location, resources, hierarchies)
  }
  return cgroups
}

async function recordJoined(root: string, id: string, made: readonly string[]): Promise<void> {
  if (tellJoined(join(root, id), made)) return
  // It was removed meanwhile, by somebody who did not know of them.
  await removeCgroup(made)
  throw notFound(id)
}
