import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'
import type { ExecCgroup } from '../exec-cgroups.ts'
import type { ContainerRecord } from '../state-directory.ts'
import { type Hierarchy, hostHierarchies } from './hierarchies.ts'
import { textOf } from './location.ts'

/**
 * The cgroups that a further process of a container belongs in: the container's own; and in the hierarchies where it has
 * none, that of its first process, where this process is in another one and may put processes there.
 */
export function cgroupsToJoin({ pid, cgroups }: Pick<ContainerRecord, 'pid' | 'cgroups'>): readonly ExecCgroup[] {
  const { v1, v2 } = hostHierarchies()
  const hierarchies = v2 === undefined ? v1 : [...v1, v2]
  const others: ExecCgroup[] = []
  const own: ExecCgroup[] = []
  let theirs: ReadonlyMap<string, string> | undefined
  let ours: ReadonlyMap<string, string> | undefined
  for (const hierarchy of hierarchies) {
    const { mountPoint, controllers } = hierarchy
    const version = hierarchy === v2 ? 2 : 1
    // Version 2 may be mounted above the others.
    const directory = cgroups.find((each) => hierarchies.find((one) => isBelow(each, one)) === hierarchy)
    if (directory !== undefined) {
      own.push({ directory, version, controllers, isOwn: true })
      continue
    }
    theirs ??= cgroupsOf(pid)
    ours ??= cgroupsOf('self')
    const path = theirs.get(keyOf(controllers))
    if (path === undefined || path === ours.get(keyOf(controllers))) continue
    const found = join(mountPoint, path)
    if (mayJoin(found, version)) others.push({ directory: found, version, controllers, isOwn: false })
  }
  return [...own, ...others]
}

function isBelow(directory: string, { mountPoint }: Hierarchy): boolean {
  return directory.startsWith(`${mountPoint}/`)
}

/** Paths by hierarchy, as /proc/<pid>/cgroup has them (cgroups(7)). */
function cgroupsOf(pid: number | 'self'): ReadonlyMap<string, string> {
  const lines = (textOf(`/proc/${pid}/cgroup`) ?? '').split('\n')
  return new Map(
    lines.flatMap((line) => {
      const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? []
      return path === undefined ? [] : [[keyOf(controllers?.split(',').filter(Boolean) ?? []), path]]
    }),
  )
}

function keyOf(controllers: readonly string[]): string {
  return [...controllers].sort().join()
}

function mayJoin(directory: string, version: 1 | 2): boolean {
  try {
    accessSync(join(directory, version === 1 ? 'tasks' : 'cgroup.procs'), constants.W_OK)
    return true
  } catch {
    return false
  }
}
