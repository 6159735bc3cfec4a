import { join } from 'node:path'
import { type CgroupLocation, textOf } from './location.ts'
import { cgroupsBelow } from './remove.ts'

/** Deepest nesting of cgroups that is followed; a container makes those inside of its own. */
const maxDepth = 64

/** Pids of all processes of a container, as the host sees them; also of those in cgroups that it made. */
export async function cgroupProcesses({ v1, v2 }: CgroupLocation): Promise<readonly number[]> {
  const directory = v2 ?? v1.get('freezer') ?? v1.get('devices') ?? v1.values().next().value
  if (directory === undefined) return []
  const pids = new Set<number>()
  await collect(directory, pids, maxDepth)
  return [...pids].sort((a, b) => a - b)
}

async function collect(directory: string, pids: Set<number>, depth: number): Promise<void> {
  for (const line of (textOf(join(directory, 'cgroup.procs')) ?? '').split('\n')) {
    // 0 stands for a process of another pid namespace.
    if (Number(line) > 0) pids.add(Number(line))
  }
  if (depth === 0) return
  for (const below of await cgroupsBelow(directory)) await collect(below, pids, depth - 1)
}
