import type { LinuxDeviceCgroup, LinuxResources } from '../../bundle/spec-resources.ts'

/** One file of a cgroup and what is written to it. */
export interface CgroupSetting {
  /** Controller whose file it is; `cgroup` for files that every cgroup has. */
  readonly controller: string
  readonly file: string
  readonly value: string
  /** JSON Pointer into config.json. */
  readonly pointer: string
  /** Errno that is no failure: the kernel was built without what the file controls. */
  readonly tolerate?: string
}

const resources = '/linux/resources'

/**
 * Devices that the spec promises to every container (config-linux.md, "Default Devices"), pseudo
 * terminals, and making any node, which opens none.
 */
const alwaysAllowed: readonly LinuxDeviceCgroup[] = [
  { allow: true, type: 'c', access: 'm' },
  { allow: true, type: 'b', access: 'm' },
  ...[3, 5, 7, 8, 9].map((minor): LinuxDeviceCgroup => ({ allow: true, type: 'c', major: 1, minor, access: 'rwm' })),
  ...[0, 1, 2].map((minor): LinuxDeviceCgroup => ({ allow: true, type: 'c', major: 5, minor, access: 'rwm' })),
  { allow: true, type: 'c', major: 136, access: 'rwm' },
]

/** What to write to the files of cgroup version 1 (Documentation/admin-guide/cgroup-v1). */
export function v1Settings(limits: LinuxResources): readonly CgroupSetting[] {
  const settings: CgroupSetting[] = []
  const set = (controller: string, file: string, value: unknown, field: string, tolerate?: string): void => {
    if (value === undefined) return
    const base = { controller, file, value: String(value), pointer: `${resources}/${field}` }
    settings.push(tolerate === undefined ? base : { ...base, tolerate })
  }
  const { memory, cpu, pids } = limits
  set('memory', 'memory.limit_in_bytes', memory?.limit, 'memory/limit')
  // Without swap accounting the file does not exist, and there is no swap to limit.
  set('memory', 'memory.memsw.limit_in_bytes', memory?.swap, 'memory/swap', 'ENOENT')
  set('memory', 'memory.soft_limit_in_bytes', memory?.reservation, 'memory/reservation')
  set('memory', 'memory.swappiness', memory?.swappiness, 'memory/swappiness')
  if (memory?.disableOOMKiller === true) set('memory', 'memory.oom_control', 1, 'memory/disableOOMKiller')
  set('cpu', 'cpu.shares', cpu?.shares, 'cpu/shares')
  set('cpu', 'cpu.cfs_period_us', cpu?.period, 'cpu/period')
  set('cpu', 'cpu.cfs_quota_us', cpu?.quota, 'cpu/quota')
  set('cpu', 'cpu.cfs_burst_us', cpu?.burst, 'cpu/burst')
  set('cpu', 'cpu.idle', cpu?.idle, 'cpu/idle')
  set('cpuset', 'cpuset.cpus', cpu?.cpus, 'cpu/cpus')
  set('cpuset', 'cpuset.mems', cpu?.mems, 'cpu/mems')
  if (pids?.limit !== undefined) set('pids', 'pids.max', maximum(pids.limit), 'pids/limit')
  if (limits.devices !== undefined) {
    completeRules(limits.devices).forEach((rule, index) => {
      set('devices', rule.allow ? 'devices.allow' : 'devices.deny', deviceRule(rule), `devices/${index}`)
    })
  }
  return settings
}

/** What to write to the files of cgroup version 2 (Documentation/admin-guide/cgroup-v2.rst). */
export function v2Settings(limits: LinuxResources): readonly CgroupSetting[] {
  const settings: CgroupSetting[] = []
  const set = (file: string, value: unknown, field: string): void => {
    if (value === undefined) return
    const controller = file.slice(0, file.indexOf('.'))
    settings.push({ controller, file, value: String(value), pointer: `${resources}/${field}` })
  }
  const { memory, cpu, pids } = limits
  if (memory?.limit !== undefined) set('memory.max', maximum(memory.limit), 'memory/limit')
  if (memory?.swap !== undefined) set('memory.swap.max', v2Swap(memory.swap, memory.limit), 'memory/swap')
  set('memory.low', memory?.reservation, 'memory/reservation')
  if (cpu?.shares !== undefined) set('cpu.weight', v2Weight(Number(cpu.shares)), 'cpu/shares')
  if (cpu?.quota !== undefined || cpu?.period !== undefined) {
    set('cpu.max', `${maximum(cpu.quota ?? -1)} ${cpu.period ?? 100_000}`, 'cpu/quota')
  }
  set('cpu.max.burst', cpu?.burst, 'cpu/burst')
  set('cpu.idle', cpu?.idle, 'cpu/idle')
  set('cpuset.cpus', cpu?.cpus, 'cpu/cpus')
  set('cpuset.mems', cpu?.mems, 'cpu/mems')
  if (pids?.limit !== undefined) set('pids.max', maximum(pids.limit), 'pids/limit')
  for (const [file, value] of Object.entries(limits.unified ?? {})) set(file, value, `unified/${file}`)
  return settings
}

/** Version 2 counts swap alone, config.json memory and swap together. */
function v2Swap(swap: number | bigint, limit: number | bigint | undefined): string {
  if (Number(swap) < 0) return 'max'
  return String(BigInt(swap) - BigInt(limit ?? 0))
}

/** The kernel's formula for shares 2…262144 as weight 1…10000 (kernel/sched, sched_weight_from_cgroup). */
function v2Weight(shares: number): number {
  if (shares === 0) return 100
  const bounded = Math.min(Math.max(shares, 2), 262_144)
  return Math.floor(1 + ((bounded - 2) * 9999) / 262_142)
}

function maximum(limit: number | bigint): string {
  return Number(limit) < 0 ? 'max' : String(limit)
}

/** The rules with those of {@link alwaysAllowed} behind them that they do not end with anyway: each is a write. */
function completeRules(rules: readonly LinuxDeviceCgroup[]): readonly LinuxDeviceCgroup[] {
  const lastDenial = rules.findLastIndex((rule) => !rule.allow)
  const granted = new Set(rules.slice(lastDenial + 1).map(deviceRule))
  return [...rules, ...alwaysAllowed.filter((rule) => !granted.has(deviceRule(rule)))]
}

function deviceRule(rule: LinuxDeviceCgroup): string {
  const number = (value: number | undefined): string => (value === undefined || value < 0 ? '*' : String(value))
  return `${rule.type ?? 'a'} ${number(rule.major)}:${number(rule.minor)} ${rule.access ?? 'rwm'}`
}
