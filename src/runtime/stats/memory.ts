import { join } from 'node:path'
import { type CgroupLocation, numbersOf, textOf } from '../cgroups/location.ts'
import type { ProcessTotals } from './processes.ts'
import type { MemoryStats } from './types.ts'

/** Memory as the controller counts it; the sum over the processes where there is none. */
export function memoryStats({ v1, v2 }: CgroupLocation, processes: () => ProcessTotals): MemoryStats {
  const directory = v1.get('memory')
  const counted = directory !== undefined ? v1Stats(directory) : v2 === undefined ? undefined : v2Stats(v2)
  if (counted !== undefined) return counted
  const { resident } = processes()
  return { usage: resident, workingSet: resident, details: {}, source: 'processes' }
}

/** Version 1 writes a number of whole pages below 2^63 for no limit. */
const v1Unlimited = 2 ** 62

function v1Stats(directory: string): MemoryStats | undefined {
  const read = (name: string): number | undefined => numberIn(textOf(join(directory, `memory.${name}`)))
  const usage = read('usage_in_bytes')
  if (usage === undefined) return undefined
  const details = numbersOf(textOf(join(directory, 'memory.stat')))
  const withSwap = read('memsw.usage_in_bytes')
  const limits = { limit: read('limit_in_bytes'), both: read('memsw.limit_in_bytes') }
  const isLimited = (limit: number | undefined): limit is number => limit !== undefined && limit < v1Unlimited
  return {
    usage,
    workingSet: Math.max(usage - (details.total_inactive_file ?? 0), 0),
    ...(isLimited(limits.limit) ? { limit: limits.limit } : {}),
    ...defined('peak', read('max_usage_in_bytes')),
    ...(withSwap === undefined ? {} : { swap: Math.max(withSwap - usage, 0) }),
    ...(isLimited(limits.both) && isLimited(limits.limit) ? { swapLimit: limits.both - limits.limit } : {}),
    ...defined('oomKills', numbersOf(textOf(join(directory, 'memory.oom_control'))).oom_kill),
    ...defined('limitHits', read('failcnt')),
    details,
    source: 'cgroup',
  }
}

function v2Stats(directory: string): MemoryStats | undefined {
  const read = (name: string): number | undefined => numberIn(textOf(join(directory, `memory.${name}`)))
  const usage = read('current')
  if (usage === undefined) return undefined
  const details = numbersOf(textOf(join(directory, 'memory.stat')))
  const events = numbersOf(textOf(join(directory, 'memory.events')))
  return {
    usage,
    workingSet: Math.max(usage - (details.inactive_file ?? 0), 0),
    ...defined('limit', read('max')),
    // Linux 5.19.
    ...defined('peak', read('peak')),
    ...defined('swap', read('swap.current')),
    ...defined('swapLimit', read('swap.max')),
    ...defined('oomKills', events.oom_kill),
    ...defined('limitHits', events.max),
    details,
    source: 'cgroup',
  }
}

/** A file with a number; undefined for `max`, and when there is none. */
function numberIn(text: string | undefined): number | undefined {
  const value = text?.trim()
  return value === undefined || value === 'max' || value === '' ? undefined : Number(value)
}

function defined<K extends string>(name: K, value: number | undefined): { readonly [key in K]?: number } {
  return (value === undefined ? {} : { [name]: value }) as { readonly [key in K]?: number }
}
