import { readFileSync } from 'node:fs'

/** A mounted cgroup hierarchy. */
export interface Hierarchy {
  readonly mountPoint: string
  /** Version 1: its controllers, or `name=…` of a hierarchy without any. Empty for version 2. */
  readonly controllers: readonly string[]
}

/** The hierarchies of this host: version 1, version 2, or both (hybrid). */
export interface Hierarchies {
  readonly v1: readonly Hierarchy[]
  readonly v2: Hierarchy | undefined
}

let cached: Hierarchies | undefined

/** The hierarchies that are mounted, read once per process. */
export function hostHierarchies(): Hierarchies {
  cached ??= parseHierarchies(readFileSync('/proc/self/mountinfo', 'utf8'))
  return cached
}

/**
 * Finds the hierarchies in the text of /proc/self/mountinfo (proc_pid_mountinfo(5)). The file is the
 * only truth: some tools make plain directories that look like controllers beside the mounts.
 */
export function parseHierarchies(mountinfo: string): Hierarchies {
  const v1: Hierarchy[] = []
  let v2: Hierarchy | undefined
  for (const line of mountinfo.split('\n')) {
    const [before, after] = line.split(' - ')
    if (before === undefined || after === undefined) continue
    const mountPoint = unescapePath(before.split(' ')[4] ?? '')
    const [type, , superOptions = ''] = after.split(' ')
    if (type === 'cgroup2') v2 ??= { mountPoint, controllers: [] }
    if (type !== 'cgroup') continue
    const controllers = superOptions.split(',').filter((option) => isController(option))
    const known = v1.some((hierarchy) => hierarchy.controllers.join() === controllers.join())
    if (controllers.length > 0 && !known) v1.push({ mountPoint, controllers })
  }
  return { v1, v2 }
}

/** The mount point of the version 1 hierarchy with `controller`. */
export function v1MountPoint(hierarchies: Hierarchies, controller: string): string | undefined {
  return hierarchies.v1.find((hierarchy) => hierarchy.controllers.includes(controller))?.mountPoint
}

const mountOptions = new Set(['rw', 'ro', 'xattr', 'noprefix', 'clone_children', 'cpuset_v2_mode', 'favordynmods'])

function isController(option: string): boolean {
  return option.startsWith('name=') || (!mountOptions.has(option) && /^[a-z_]+$/.test(option))
}

/** Undoes the octal escapes of space, tab, newline and backslash. */
export function unescapePath(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
}
