import { join } from 'node:path'
import { type CgroupLocation, numbersOf, readCgroupFile, textOf } from '../cgroups/location.ts'
import type { ProcessTotals } from './processes.ts'
import type { CpuStats } from './types.ts'

/** Processor time; of the processes that there are, where no cgroup counts it. */
export function cpuStats(location: CgroupLocation, processes: () => ProcessTotals): CpuStats {
  const { v1, v2 } = location
  const accounting = v1.get('cpuacct')
  const throttling = numbersOf(readCgroupFile(location, 'cpu', { v1: 'cpu.stat', v2: 'cpu.stat' }))
  if (accounting !== undefined) return { ...v1Usage(accounting), ...throttled(throttling, 1000) }
  // Every cgroup of version 2 counts it, also without the controller.
  const own = numbersOf(v2 === undefined ? undefined : textOf(join(v2, 'cpu.stat')))
  if (own.usage_usec !== undefined) {
    const { usage_usec: usage, user_usec: user = 0, system_usec: system = 0 } = own
    return { usage, user, system, ...throttled(throttling, v1.has('cpu') ? 1000 : 1) }
  }
  const { user, system } = processes()
  return { usage: user + system, user, system, ...throttled(throttling, 1000) }
}

/** Version 1 tells nanoseconds, version 2 microseconds. */
function throttled(stat: Readonly<Record<string, number>>, scale: number): Partial<CpuStats> {
  const { nr_periods: periods, nr_throttled: throttledPeriods } = stat
  if (periods === undefined || throttledPeriods === undefined) return {}
  const time = stat.throttled_usec ?? (stat.throttled_time ?? 0) / scale
  return { periods, throttledPeriods, throttledTime: Math.round(time) }
}

function v1Usage(directory: string): Omit<CpuStats, 'periods' | 'throttledPeriods' | 'throttledTime'> {
  const microseconds = (nanoseconds: string | undefined): number => Math.round(Number(nanoseconds ?? 0) / 1000)
  const usage = microseconds(textOf(join(directory, 'cpuacct.usage'))?.trim())
  const user = microseconds(textOf(join(directory, 'cpuacct.usage_user'))?.trim())
  const system = microseconds(textOf(join(directory, 'cpuacct.usage_sys'))?.trim())
  const perCpu = textOf(join(directory, 'cpuacct.usage_percpu'))?.trim().split(/\s+/).map(microseconds)
  return { usage, user, system, ...(perCpu === undefined ? {} : { perCpu }) }
}
