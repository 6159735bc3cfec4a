import { ConflictError } from '../../errors.ts'
import { locateCgroup } from '../cgroups/location.ts'
import { cgroupProcesses } from '../cgroups/members.ts'
import { type LookupOptions, statusOf } from '../lookup.ts'
import { type ContainerRecord, defaultStateRoot, readRecord } from '../state-directory.ts'
import { blockIoStats } from './block-io.ts'
import { cpuStats } from './cpu.ts'
import { memoryStats } from './memory.ts'
import { hugepageStats, networkStats, pidsStats, pressureStats, rdmaStats } from './others.ts'
import { type ProcessTotals, processTotals } from './processes.ts'
import type { ContainerStats } from './types.ts'

/**
 * What a container of any process uses at this moment. What no cgroup of it counts is the sum over the
 * processes that it has: see `accounting` of CreateOptions.
 * @throws NotFoundError when there is none of that id. @throws ConflictError when it does not run.
 */
export async function stats(id: string, options: LookupOptions = {}): Promise<ContainerStats> {
  return statsOf(await readRecord(options.stateRoot ?? defaultStateRoot(), id))
}

/** What the container of a record uses. */
export async function statsOf(record: ContainerRecord): Promise<ContainerStats> {
  const status = statusOf(record)
  if (status === 'stopped' || status === 'creating') {
    throw new ConflictError(record.id, `container ${record.id} is not running`)
  }
  const location = locateCgroup(record.cgroups)
  const known = await cgroupProcesses(location)
  let totals: ProcessTotals | undefined
  // Only where it is needed: it looks at every process.
  const processes = (): ProcessTotals => {
    totals ??= processTotals(known.length === 0 ? [record.pid] : known)
    return totals
  }
  return {
    time: new Date(),
    cpu: cpuStats(location, processes),
    memory: memoryStats(location, processes),
    pids: pidsStats(location, processes),
    blockIO: blockIoStats(location, processes),
    hugepages: hugepageStats(location),
    rdma: rdmaStats(location),
    pressure: pressureStats(location),
    network: networkStats(record.pid),
  }
}
