import { InvalidArgumentError } from '../errors.ts'
import { toBytes } from '../internal/units.ts'
import { defaultDeviceRules } from './defaults.ts'
import type { BundleOptions, Ulimit, UlimitValue } from './options.ts'
import type { Int64 } from './spec.ts'
import type { Rlimit } from './spec-process.ts'
import type { LinuxCpu, LinuxMemory, LinuxResources } from './spec-resources.ts'

/** Limits that can be changed while a container runs. */
export type LimitOptions = Pick<
  BundleOptions,
  | 'memory'
  | 'memorySwap'
  | 'memoryReservation'
  | 'cpus'
  | 'cpuShares'
  | 'cpusetCpus'
  | 'cpusetMems'
  | 'pids'
  | 'resources'
>

/** The limits of the options. @throws InvalidArgumentError */
export function specLimits(options: LimitOptions): LinuxResources {
  const memory = specMemory(options)
  const cpu = specCpu(options)
  return {
    ...(memory === undefined ? {} : { memory }),
    ...(cpu === undefined ? {} : { cpu }),
    ...(options.pids === undefined ? {} : { pids: { limit: pidsLimit(options.pids) } }),
    ...options.resources,
  }
}

/** The cgroup settings of the options. @throws InvalidArgumentError */
export function specResources(options: BundleOptions): LinuxResources {
  const granted = (options.devices ?? [])
    .filter((device) => device.type !== 'p')
    .map(({ type, major = 0, minor = 0, access = 'rwm' }) => ({
      allow: true,
      type: type === 'b' ? ('b' as const) : ('c' as const),
      major,
      minor,
      access,
    }))
  return {
    devices: [...defaultDeviceRules, ...granted],
    ...specLimits(options),
  }
}

function specMemory(options: LimitOptions): LinuxMemory | undefined {
  const { memory, memorySwap, memoryReservation } = options
  if (memory === undefined && memorySwap !== undefined) throw fault('memorySwap', 'needs memory')
  const limit = memory === undefined ? undefined : toBytes(memory, 'memory')
  const reservation = memoryReservation === undefined ? undefined : toBytes(memoryReservation, 'memoryReservation')
  if (limit === 0) throw fault('memory', 'must be greater than 0')
  if (limit === undefined && reservation === undefined) return undefined
  return {
    ...(limit === undefined ? {} : { limit, swap: swapLimit(limit, memorySwap) }),
    ...(reservation === undefined ? {} : { reservation }),
  }
}

/** Docker's rule: as much swap as memory, unless something else was asked for. */
function swapLimit(limit: number, memorySwap: BundleOptions['memorySwap']): Int64 {
  if (memorySwap === undefined) return Math.min(limit * 2, Number.MAX_SAFE_INTEGER)
  if (memorySwap === -1) return -1
  const swap = toBytes(memorySwap, 'memorySwap')
  if (swap < limit) throw fault('memorySwap', 'must not be below memory: it is memory and swap together')
  return swap
}

/** Docker's accounting period, in microseconds. */
const period = 100_000

function specCpu(options: LimitOptions): LinuxCpu | undefined {
  const { cpus, cpuShares, cpusetCpus, cpusetMems } = options
  if (cpus !== undefined && !(Number.isFinite(cpus) && cpus >= 0.01)) throw fault('cpus', 'must be at least 0.01')
  if (cpuShares !== undefined && !(Number.isInteger(cpuShares) && cpuShares >= 2 && cpuShares <= 262_144)) {
    throw fault('cpuShares', 'must be an integer from 2 to 262144')
  }
  const cpu = {
    ...(cpus === undefined ? {} : { quota: Math.round(cpus * period), period }),
    ...(cpuShares === undefined ? {} : { shares: cpuShares }),
    ...(cpusetCpus === undefined ? {} : { cpus: cpuList(cpusetCpus, 'cpusetCpus') }),
    ...(cpusetMems === undefined ? {} : { mems: cpuList(cpusetMems, 'cpusetMems') }),
  }
  return Object.keys(cpu).length === 0 ? undefined : cpu
}

function cpuList(list: string, option: string): string {
  if (/^\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*$/.test(list)) return list
  throw fault(option, 'must be a list such as 0-3,7')
}

function pidsLimit(pids: number): number {
  if (Number.isSafeInteger(pids) && (pids === -1 || pids >= 1)) return pids
  throw fault('pids', 'must be an integer of at least 1, or -1 for no limit')
}

/** The resource limits of the options. @throws InvalidArgumentError */
export function specRlimits(ulimits: Readonly<Record<string, Ulimit>>): readonly Rlimit[] {
  return Object.entries(ulimits).map(([name, limit]) => {
    const option = `ulimits.${name}`
    if (!/^[a-z]+$/i.test(name)) throw fault(option, 'has no name of a resource limit')
    const [soft, hard] = typeof limit === 'object' ? [limit.soft, limit.hard] : [limit, limit]
    const rlimit = {
      type: `RLIMIT_${name.toUpperCase().replace(/^RLIMIT_/, '')}`,
      soft: rlimitValue(soft, option),
      hard: rlimitValue(hard, option),
    }
    if (rlimit.soft > rlimit.hard) throw fault(option, 'must not have a soft limit above the hard one')
    return rlimit
  })
}

const infinity = 2n ** 64n - 1n

function rlimitValue(value: UlimitValue, option: string): Int64 {
  if (value === 'unlimited' || value === -1) return infinity
  if (typeof value === 'bigint' ? value >= 0n && value <= infinity : Number.isSafeInteger(value) && value >= 0) {
    return value
  }
  throw fault(option, 'must be an integer of at least 0, or "unlimited"')
}

function fault(option: string, must: string): InvalidArgumentError {
  return new InvalidArgumentError(`${option} ${must}`, { subject: option })
}
