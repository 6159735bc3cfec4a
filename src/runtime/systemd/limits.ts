import { largestCpu, parseNumberList } from '../../internal/number-list.ts'
import type { ResourcePlan } from '../cgroups/resources.ts'
import type { CgroupSetting } from '../cgroups/setting.ts'
import type { Property } from './manager.ts'

const infinity = 0xffff_ffff_ffff_ffffn
/** Systemd keeps the quota for a second in steps of 10 ms (systemd, src/core/dbus-cgroup.c). */
const quotaStep = 10_000

/**
 * Limits as properties of a unit: those that systemd has one for. The others it leaves as they are written. When it
 * reads its configuration again it sets what it knows, and without these it would lift the limits.
 * @param version of systemd
 */
export function limitProperties({ v1, v2 }: Pick<ResourcePlan, 'v1' | 'v2'>, version: number): readonly Property[] {
  const properties = new Map<string, Property>()
  const add = (property: Property): void => {
    properties.set(property[0], property)
  }
  const last = new Map([...v1, ...v2].map((setting) => [setting.file, setting]))
  for (const setting of last.values()) {
    for (const property of propertiesOf(setting, version)) add(property)
  }
  const [quota, period] = ['cpu.cfs_quota_us', 'cpu.cfs_period_us'].map((file) => last.get(file)?.value)
  if (quota !== undefined) for (const property of quotaProperties(quota, period ?? '100000', version)) add(property)
  return [...properties.values()]
}

/** Properties that are a number, by the files of either version. */
const numbers: Readonly<Record<string, string>> = {
  'memory.max': 'MemoryMax',
  'memory.high': 'MemoryHigh',
  'memory.low': 'MemoryLow',
  'memory.min': 'MemoryMin',
  'memory.swap.max': 'MemorySwapMax',
  'memory.limit_in_bytes': 'MemoryLimit',
  'pids.max': 'TasksMax',
  'cpu.weight': 'CPUWeight',
  'cpu.shares': 'CPUShares',
}

const lists: Readonly<Record<string, string>> = { 'cpuset.cpus': 'AllowedCPUs', 'cpuset.mems': 'AllowedMemoryNodes' }

function propertiesOf({ file, value }: CgroupSetting, version: number): readonly Property[] {
  const name = numbers[file]
  if (name !== undefined) {
    const number = numberOf(value)
    return number === undefined ? [] : [[name, { signature: 't', value: number }]]
  }
  if (file === 'cpu.max') {
    const [quota = 'max', period = '100000'] = value.trim().split(/\s+/)
    return quotaProperties(quota, period, version)
  }
  const list = lists[file]
  if (list === undefined || version < 244) return []
  const bits = bitsOf(value)
  return bits === undefined ? [] : [[list, { signature: 'ay', value: bits }]]
}

/** Undefined for what the kernel is to judge. */
function numberOf(value: string): bigint | undefined {
  if (value === 'max' || value === '-1') return infinity
  return /^\d{1,19}$/.test(value) ? BigInt(value) : undefined
}

function quotaProperties(quota: string, period: string, version: number): readonly Property[] {
  if (!/^\d{1,15}$/.test(period) || Number(period) === 0) return []
  const each: Property[] = []
  if (numberOf(quota) === infinity) each.push(['CPUQuotaPerSecUSec', { signature: 't', value: infinity }])
  else if (/^\d{1,15}$/.test(quota)) {
    const perSecond = Math.ceil((Number(quota) * 1_000_000) / Number(period) / quotaStep) * quotaStep
    each.push(['CPUQuotaPerSecUSec', { signature: 't', value: BigInt(perSecond) }])
  }
  if (version >= 242) each.push(['CPUQuotaPeriodUSec', { signature: 't', value: BigInt(period) }])
  return each
}

/** A list such as `0-3,7` as bits, the first one lowest. */
function bitsOf(list: string): Buffer | undefined {
  const found = parseNumberList(list, largestCpu)
  const last = found?.at(-1)
  if (found === undefined || last === undefined) return undefined
  const bits = Buffer.alloc((last >> 3) + 1)
  for (const number of found) bits[number >> 3] = (bits[number >> 3] ?? 0) | (1 << (number & 7))
  return bits
}
