import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import type { LinuxResources } from '../../bundle/spec-resources.ts'
import { UnsupportedError } from '../../errors.ts'
import { hasCode } from '../../internal/file-error.ts'
import { freeze, isFrozen, thaw } from './freezer.ts'
import { type Hierarchies, v1MountPoint } from './hierarchies.ts'
import type { CgroupLocation } from './location.ts'
import { cgroupProcesses } from './members.ts'
import { ancestors, defaultName } from './path.ts'
import { missingControllers } from './update.ts'

/**
 * Brings a running container into the cgroups that `resources` need and that it had no use for when it was made.
 * @returns the directories that were made.
 */
export async function joinMissing(
  id: string,
  location: CgroupLocation,
  resources: LinuxResources,
  hierarchies: Hierarchies,
): Promise<readonly string[]> {
  if (location.v2 === undefined && location.v1.size === 0) {
    throw new UnsupportedError(`updating container ${id}`, 'it has no cgroup', {
      hint: 'An ordinary user needs a cgroup that was delegated to it.',
    })
  }
  const missing = missingControllers(location, resources, hierarchies)
  const path = pathOf(id, location, hierarchies)
  const { v2 } = hierarchies
  if (missing.v2.length > 0) {
    if (v2 === undefined || location.v2 === undefined) {
      throw new UnsupportedError(`a limit of ${missing.v2[0]}`, 'this container has no cgroup that could have it')
    }
    handDownNow(v2.mountPoint, path, missing.v2)
  }
  const made = new Set<string>()
  for (const controller of missing.v1) {
    const mountPoint = v1MountPoint(hierarchies, controller) as string
    if (controller === 'cpuset') makeCpuset(mountPoint, path)
    else mkdirSync(join(mountPoint, path), { recursive: true })
    made.add(join(mountPoint, path))
  }
  if (made.size > 0) await moveAll(location, [...made])
  return [...made]
}

/** Moves every process. They stand still meanwhile: none is born that would be missed. */
async function moveAll(location: CgroupLocation, directories: readonly string[]): Promise<void> {
  const mayFreeze = location.v2 !== undefined || location.v1.has('freezer')
  const wasFrozen = isFrozen(location)
  if (mayFreeze && !wasFrozen) await freeze(location)
  try {
    for (const pid of await cgroupProcesses(location)) {
      for (const directory of directories) move(pid, directory)
    }
  } finally {
    if (mayFreeze && !wasFrozen) await thaw(location)
  }
}

function move(pid: number, directory: string): void {
  try {
    writeFileSync(join(directory, 'cgroup.procs'), String(pid), { flag: 'r+' })
  } catch (error) {
    // It has ended since it was listed.
    if (!hasCode(error, 'ESRCH')) throw error
  }
}

/** Path below the mount points; the same in every hierarchy. */
function pathOf(id: string, { v1, v2 }: CgroupLocation, hierarchies: Hierarchies): string {
  if (v2 !== undefined) return relative(hierarchies.v2?.mountPoint ?? '/', v2)
  for (const [controller, directory] of v1) return relative(v1MountPoint(hierarchies, controller) ?? '/', directory)
  return defaultName(id)
}

function handDownNow(mountPoint: string, path: string, controllers: readonly string[]): void {
  const value = controllers.map((controller) => `+${controller}`).join(' ')
  for (const directory of ancestors(mountPoint, path).slice(0, -1)) {
    const file = join(directory, 'cgroup.subtree_control')
    const given = readFileSync(file, 'utf8').trim().split(' ')
    if (!controllers.every((controller) => given.includes(controller))) writeFileSync(file, value, { flag: 'r+' })
  }
}

/** It takes no process before it has processors and memory: those of the level above. */
function makeCpuset(mountPoint: string, path: string): void {
  const all = ancestors(mountPoint, path)
  all.slice(1).forEach((directory, index) => {
    if (!existsSync(directory)) mkdirSync(directory)
    for (const file of ['cpuset.cpus', 'cpuset.mems']) {
      const present = readFileSync(join(directory, file), 'utf8').trim()
      const above = readFileSync(join(all[index] as string, file), 'utf8').trim()
      if (present === '') writeFileSync(join(directory, file), above, { flag: 'r+' })
    }
  })
}
