import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { delay } from '../../../src/internal/abort.ts'
import { hostHierarchies } from '../../../src/runtime/cgroups/hierarchies.ts'

/** What is there of the containers below one directory. */
export interface Leftovers {
  /** Processes that have something of the directory open, mounted, or as their place. */
  readonly processes: readonly string[]
  /** Mounts of this process. */
  readonly mounts: readonly string[]
  readonly cgroups: readonly string[]
  /** What stands in the state directory, and what is being made in the store. */
  readonly files: readonly string[]
}

/** Nothing at all. */
export const nothing: Leftovers = { processes: [], mounts: [], cgroups: [], files: [] }

/** Where to look. */
export interface Place {
  /** Holds `store` and `state`. */
  readonly directory: string
  /** What the names of its cgroups contain. */
  readonly mark: string
}

/** What is left when what ends soon has ended: at most some seconds later. */
export async function settledLeftovers(place: Place): Promise<Leftovers> {
  const end = Date.now() + 10_000
  for (;;) {
    const found = leftovers(place)
    if (JSON.stringify(found) === JSON.stringify(nothing) || Date.now() > end) return found
    await delay(10)
  }
}

function leftovers({ directory, mark }: Place): Leftovers {
  return {
    processes: list('/proc').filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid && uses(pid, directory)),
    mounts: mountsOf('self').filter((line) => line.includes(directory)),
    cgroups: cgroupsOf(mark),
    files: ['state', 'store/tmp', 'store/content/ingest', 'store/containers', 'store/leases'].flatMap((folder) =>
      list(join(directory, folder)).map((name) => join(folder, name)),
    ),
  }
}

/** Directories of cgroups with `mark` in their name. */
export function cgroupsOf(mark: string): readonly string[] {
  const { v1, v2 } = hostHierarchies()
  const roots = [...v1, ...(v2 === undefined ? [] : [v2])].map(({ mountPoint }) => mountPoint)
  return roots.flatMap((root) =>
    list(root)
      .filter((name) => name.includes(mark))
      .map((name) => join(root, name)),
  )
}

function uses(pid: string, directory: string): boolean {
  const links = [
    `/proc/${pid}/cwd`,
    `/proc/${pid}/root`,
    ...list(`/proc/${pid}/fd`).map((fd) => `/proc/${pid}/fd/${fd}`),
  ]
  return (
    links.some((link) => target(link).startsWith(directory)) || mountsOf(pid).some((line) => line.includes(directory))
  )
}

function mountsOf(pid: string): readonly string[] {
  try {
    return readFileSync(`/proc/${pid}/mountinfo`, 'utf8').split('\n')
  } catch {
    return []
  }
}

function list(directory: string): readonly string[] {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}

function target(link: string): string {
  try {
    return readlinkSync(link)
  } catch {
    return ''
  }
}
