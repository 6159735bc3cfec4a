import { textOf } from '../cgroups/location.ts'

/** What the processes of a container that run at this moment use together. */
export interface ProcessTotals {
  /** Microseconds. */
  readonly user: number
  readonly system: number
  /** Bytes. Memory that several share counts for each of them. */
  readonly resident: number
  readonly threads: number
  readonly readBytes: number
  readonly writeBytes: number
}

const ticks = 100
const pageSize = 4096

/** Adds up what /proc tells of `pids`. */
export function processTotals(pids: readonly number[]): ProcessTotals {
  let [user, system, resident, threads, readBytes, writeBytes] = [0, 0, 0, 0, 0, 0]
  for (const pid of pids) {
    const stat = procFile(pid, 'stat')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    user += (Number(fields[11] ?? 0) * 1_000_000) / ticks
    system += (Number(fields[12] ?? 0) * 1_000_000) / ticks
    threads += Number(fields[17] ?? 0)
    resident += Number(fields[21] ?? 0) * pageSize
    const io = procFile(pid, 'io')
    readBytes += Number(/^read_bytes: (\d+)/m.exec(io)?.[1] ?? 0)
    writeBytes += Number(/^write_bytes: (\d+)/m.exec(io)?.[1] ?? 0)
  }
  return { user, system, resident, threads, readBytes, writeBytes }
}

/** A process may end while it is looked at, or not be this user's. */
function procFile(pid: number, name: string): string {
  try {
    return textOf(`/proc/${pid}/${name}`) ?? ''
  } catch {
    return ''
  }
}
