import type { LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources } from '../../bundle/spec-resources.ts'
import { InvalidArgumentError } from '../../errors.ts'
import { pointerToken } from '../../internal/json.ts'
import {
  type CgroupSetting,
  deviceName,
  given,
  givenText,
  maximum,
  rdmaLine,
  resourcesPointer,
  SettingList,
} from './setting.ts'

/** What to write to the files of cgroup version 2, in order (Documentation/admin-guide/cgroup-v2.rst). */
export function v2Settings(limits: LinuxResources): readonly CgroupSetting[] {
  const list = new SettingList()
  memory(list, limits.memory ?? {})
  cpu(list, limits.cpu ?? {})
  const { pids } = limits
  if (pids?.limit !== undefined) {
    // A process can't be born where none may be; it can become another program there.
    list.add('pids', 'pids.max', maximum(pids.limit), 'pids/limit', { late: Number(pids.limit) === 0 })
  }
  blockIo(list, limits.blockIO ?? {})
  limits.hugepageLimits?.forEach(({ pageSize, limit }, index) => {
    const field = `hugepageLimits/${index}`
    list.add('hugetlb', `hugetlb.${pageSize}.max`, limit, field)
    // Reservations are counted since Linux 5.7.
    list.add('hugetlb', `hugetlb.${pageSize}.rsvd.max`, limit, field, { tolerate: 'ENOENT' })
  })
  for (const [name, rdma] of Object.entries(limits.rdma ?? {})) {
    list.add('rdma', 'rdma.max', rdmaLine(name, rdma), `rdma${pointerToken(name)}`)
  }
  return list.settings
}

/** The settings of `unified`; behind the others, so that they have the last word. */
export function unifiedSettings({ unified = {} }: LinuxResources): readonly CgroupSetting[] {
  const list = new SettingList()
  for (const [file, value] of Object.entries(unified)) {
    const controller = file.slice(0, Math.max(file.indexOf('.'), 0))
    // It is the name of a file and never a path; and these decide on the cgroup itself.
    if (controller === '' || file.includes('/') || reserved.has(file)) {
      throw new InvalidArgumentError(`${resourcesPointer}/unified: ${JSON.stringify(file)} is no limit of a cgroup`)
    }
    list.add(controller, file, value, `unified${pointerToken(file)}`)
  }
  return list.settings
}

const reserved = new Set(['cgroup.procs', 'cgroup.threads', 'cgroup.kill', 'cgroup.freeze'])

/** What of `limits` version 2 has no file for: pointers below `resources`, by controller of version 1. */
export function onlyInV1(limits: LinuxResources): readonly { readonly controller: string; readonly field: string }[] {
  const { memory, cpu, blockIO, network } = limits
  const asked: readonly (readonly [controller: string, field: string, unknown])[] = [
    ['memory', 'memory/swappiness', memory?.swappiness],
    ['memory', 'memory/disableOOMKiller', memory?.disableOOMKiller === true ? true : undefined],
    ['cpu', 'cpu/realtimeRuntime', given(cpu?.realtimeRuntime)],
    ['cpu', 'cpu/realtimePeriod', given(cpu?.realtimePeriod)],
    ['blkio', 'blockIO/leafWeight', given(blockIO?.leafWeight)],
    ['blkio', 'blockIO/weightDevice', blockIO?.weightDevice?.find(({ leafWeight }) => given(leafWeight) !== undefined)],
    ['net_cls', 'network/classID', given(network?.classID)],
    ['net_prio', 'network/priorities', network?.priorities?.length === 0 ? undefined : network?.priorities],
  ]
  return asked.flatMap(([controller, field, value]) => (value === undefined ? [] : [{ controller, field }]))
}

function memory(list: SettingList, limits: LinuxMemory): void {
  const limit = given(limits.limit)
  if (limit !== undefined) list.add('memory', 'memory.max', maximum(limit), 'memory/limit')
  // Without swap accounting the file does not exist, and there is no swap to limit.
  list.add('memory', 'memory.swap.max', swapAlone(limits), 'memory/swap', { tolerate: 'ENOENT' })
  const reservation = given(limits.reservation)
  if (reservation !== undefined) list.add('memory', 'memory.low', maximum(reservation), 'memory/reservation')
}

/** Version 2 counts swap alone, config.json memory and swap together; as runc and crun convert it. */
function swapAlone(limits: LinuxMemory): string | undefined {
  const [limit, swap] = [given(limits.limit), given(limits.swap)]
  if (swap === undefined) return Number(limit ?? 0) === -1 ? 'max' : undefined
  if (Number(swap) < 0) return 'max'
  const pointer = `${resourcesPointer}/memory/swap`
  if (limit === undefined || Number(limit) < 0) {
    throw new InvalidArgumentError(`${pointer} can't be set without a memory limit: it is memory and swap together`)
  }
  if (BigInt(swap) < BigInt(limit)) {
    throw new InvalidArgumentError(`${pointer} must not be below the memory limit: it is memory and swap together`)
  }
  return String(BigInt(swap) - BigInt(limit))
}

function cpu(list: SettingList, limits: LinuxCpu): void {
  const set = (file: string, value: Parameters<SettingList['add']>[2], field: string): void =>
    list.add('cpu', `cpu.${file}`, value, `cpu/${field}`)
  const { idle } = limits
  const shares = given(limits.shares)
  // A group that is idle takes no weight.
  if (idle !== undefined && Number(idle) === 0) set('idle', idle, 'idle')
  if (shares !== undefined) set('weight', cpuWeight(Number(shares)), 'shares')
  if (idle !== undefined && Number(idle) !== 0) set('idle', idle, 'idle')
  const [quota, period] = [given(limits.quota), given(limits.period)]
  if (quota !== undefined || period !== undefined) {
    set('max', `${maximum(quota ?? -1)} ${period ?? 100_000}`, quota === undefined ? 'period' : 'quota')
  }
  set('max.burst', limits.burst, 'burst')
  list.add('cpuset', 'cpuset.cpus', givenText(limits.cpus), 'cpu/cpus')
  list.add('cpuset', 'cpuset.mems', givenText(limits.mems), 'cpu/mems')
}

/**
 * Shares 2…262144 as weight 1…10000, so that the default 1024 becomes the default 100: a quadratic curve
 * through the three points on logarithmic scales, as runc and crun have it since 2025.
 */
export function cpuWeight(shares: number): number {
  if (shares <= 2) return 1
  if (shares >= 262_144) return 10_000
  const l = Math.log2(shares)
  const exponent = (l * l + 125 * l) / 612 - 7 / 34
  return Math.ceil(10 ** exponent)
}

function blockIo(list: SettingList, limits: LinuxBlockIo): void {
  // BFQ has a file of its own; the cost model has the one of the documentation.
  const either = (device: string, weight: number | undefined, field: string): void => {
    if (weight === undefined || weight === 0) return
    const how = { either: field }
    list.add('io', 'io.bfq.weight', `${device}${weight}`, `blockIO/${field}`, how)
    list.add('io', 'io.weight', `${device}${ioWeight(weight)}`, `blockIO/${field}`, how)
  }
  either('', limits.weight, 'weight')
  limits.weightDevice?.forEach((device, index) => {
    either(`${deviceName(device)} `, device.weight, `weightDevice/${index}`)
  })
  for (const [field, key] of throttles) {
    limits[field]?.forEach((device, index) => {
      const rate = given(device.rate) ?? 'max'
      list.add('io', 'io.max', `${deviceName(device)} ${key}=${rate}`, `blockIO/${field}/${index}`)
    })
  }
}

const throttles = [
  ['throttleReadBpsDevice', 'rbps'],
  ['throttleWriteBpsDevice', 'wbps'],
  ['throttleReadIOPSDevice', 'riops'],
  ['throttleWriteIOPSDevice', 'wiops'],
] as const

/** Weight 10…1000 of version 1 as weight 1…10000. */
function ioWeight(weight: number): number {
  return Math.floor(1 + ((Math.min(Math.max(weight, 10), 1000) - 10) * 9999) / 990)
}
