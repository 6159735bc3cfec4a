import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { hasCode } from '../../internal/file-error.ts'
import { type Hierarchies, hostHierarchies } from './hierarchies.ts'

/** Where a container's cgroup is, by hierarchy. */
export interface CgroupLocation {
  /** Version 1: controller -> directory. */
  readonly v1: ReadonlyMap<string, string>
  /** Version 2: the directory. */
  readonly v2: string | undefined
}

/** Finds out which hierarchies the directories of a cgroup belong to. */
export function locateCgroup(
  directories: readonly string[],
  hierarchies: Hierarchies = hostHierarchies(),
): CgroupLocation {
  const v1 = new Map<string, string>()
  let v2: string | undefined
  for (const directory of directories) {
    const isIn = ({ mountPoint }: { readonly mountPoint: string }): boolean => directory.startsWith(`${mountPoint}/`)
    const hierarchy = hierarchies.v1.find(isIn)
    for (const controller of hierarchy?.controllers ?? []) v1.set(controller, directory)
    // It may be mounted above the others, or among them.
    if (hierarchy === undefined && hierarchies.v2 !== undefined && isIn(hierarchies.v2)) v2 = directory
  }
  return { v1, v2 }
}

/** Text of a file of the cgroup, in the version that has the controller; undefined when there is none. */
export function readCgroupFile(
  { v1, v2 }: CgroupLocation,
  controller: string,
  names: { readonly v1?: string; readonly v2?: string },
): string | undefined {
  const inV1 = v1.get(controller)
  if (inV1 !== undefined) return names.v1 === undefined ? undefined : textOf(join(inV1, names.v1))
  return v2 === undefined || names.v2 === undefined ? undefined : textOf(join(v2, names.v2))
}

/** Text of a file; undefined when there is none. Files of cgroups are small, and in memory. */
export function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    // ENODEV: the cgroup is being removed. EOPNOTSUPP: the kernel was started without what the file tells.
    if (['ENOENT', 'ENODEV', 'EOPNOTSUPP', 'ENOTSUP'].some((code) => hasCode(error, code))) return undefined
    throw error
  }
}

/** Lines of `name value`, as numbers. */
export function numbersOf(text: string | undefined): Readonly<Record<string, number>> {
  const entries = (text ?? '').split('\n').map((line) => line.split(' '))
  return Object.fromEntries(entries.flatMap(([name, value]) => (value === undefined ? [] : [[name, Number(value)]])))
}
