import type { LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources } from '../../bundle/spec-resources.ts'
import { pointerToken } from '../../internal/json.ts'
import { deviceRuleLine, v1DeviceRules } from './device-rules.ts'
import { type CgroupSetting, deviceName, given, givenText, maximum, rdmaLine, SettingList } from './setting.ts'

/** What to write to the files of cgroup version 1, in order (Documentation/admin-guide/cgroup-v1). */
export function v1Settings(limits: LinuxResources): readonly CgroupSetting[] {
  const list = new SettingList()
  memory(list, limits.memory ?? {})
  cpu(list, limits.cpu ?? {})
  const { pids, network } = limits
  if (pids?.limit !== undefined) list.add('pids', 'pids.max', maximum(pids.limit), 'pids/limit')
  blockIo(list, limits.blockIO ?? {})
  limits.hugepageLimits?.forEach(({ pageSize, limit }, index) => {
    const field = `hugepageLimits/${index}`
    list.add('hugetlb', `hugetlb.${pageSize}.limit_in_bytes`, limit, field)
    // Reservations are counted since Linux 5.7.
    list.add('hugetlb', `hugetlb.${pageSize}.rsvd.limit_in_bytes`, limit, field, { tolerate: 'ENOENT' })
  })
  for (const [name, rdma] of Object.entries(limits.rdma ?? {})) {
    list.add('rdma', 'rdma.max', rdmaLine(name, rdma), `rdma${pointerToken(name)}`)
  }
  list.add('net_cls', 'net_cls.classid', given(network?.classID), 'network/classID')
  network?.priorities?.forEach(({ name, priority }, index) => {
    list.add('net_prio', 'net_prio.ifpriomap', `${name} ${priority}`, `network/priorities/${index}`)
  })
  if (limits.devices !== undefined) {
    for (const { rule, index } of v1DeviceRules(limits.devices)) {
      const file = rule.allow ? 'devices.allow' : 'devices.deny'
      list.add('devices', file, deviceRuleLine(rule), index < 0 ? 'devices' : `devices/${index}`)
    }
  }
  return list.settings
}

function memory(list: SettingList, limits: LinuxMemory): void {
  const set = (file: string, value: Parameters<SettingList['add']>[2], field: string, tolerate?: string): void =>
    list.add('memory', `memory.${file}`, value, `memory/${field}`, tolerate === undefined ? {} : { tolerate })
  // Since Linux 5.11 there is no other way, and no other value is taken.
  if (limits.useHierarchy === true) set('use_hierarchy', true, 'useHierarchy', 'any')
  set('limit_in_bytes', given(limits.limit), 'limit')
  // Without swap accounting the file does not exist, and there is no swap to limit.
  set('memsw.limit_in_bytes', swapWithMemory(limits), 'swap', 'ENOENT')
  set('soft_limit_in_bytes', given(limits.reservation), 'reservation')
  set('kmem.tcp.limit_in_bytes', given(limits.kernelTCP), 'kernelTCP')
  set('swappiness', limits.swappiness, 'swappiness')
  set('oom_control', limits.disableOOMKiller === true ? true : undefined, 'disableOOMKiller')
}

/** Memory without a limit goes with swap without one, unless that has one of its own. */
function swapWithMemory({ limit, swap }: LinuxMemory): LinuxMemory['swap'] {
  return given(swap) ?? (Number(limit ?? 0) === -1 ? -1 : undefined)
}

function cpu(list: SettingList, limits: LinuxCpu): void {
  const set = (file: string, value: Parameters<SettingList['add']>[2], field: string): void =>
    list.add('cpu', `cpu.${file}`, value, `cpu/${field}`)
  // A group that is idle takes no shares.
  const { idle } = limits
  if (idle !== undefined && Number(idle) === 0) set('idle', idle, 'idle')
  set('shares', given(limits.shares), 'shares')
  if (idle !== undefined && Number(idle) !== 0) set('idle', idle, 'idle')
  set('cfs_period_us', given(limits.period), 'period')
  set('cfs_quota_us', given(limits.quota), 'quota')
  set('cfs_burst_us', limits.burst, 'burst')
  set('rt_period_us', given(limits.realtimePeriod), 'realtimePeriod')
  set('rt_runtime_us', given(limits.realtimeRuntime), 'realtimeRuntime')
  list.add('cpuset', 'cpuset.cpus', givenText(limits.cpus), 'cpu/cpus')
  list.add('cpuset', 'cpuset.mems', givenText(limits.mems), 'cpu/mems')
}

function blockIo(list: SettingList, limits: LinuxBlockIo): void {
  // The files of BFQ, of Linux 5 and later, or those of CFQ before it.
  const either = (file: string, value: string | number | undefined, field: string): void => {
    for (const prefix of ['blkio.bfq.', 'blkio.']) {
      list.add('blkio', `${prefix}${file}`, value, `blockIO/${field}`, { either: field })
    }
  }
  either('weight', weight(limits.weight), 'weight')
  list.add('blkio', 'blkio.leaf_weight', weight(limits.leafWeight), 'blockIO/leafWeight')
  limits.weightDevice?.forEach((device, index) => {
    const field = `weightDevice/${index}`
    const [own, leaf] = [weight(device.weight), weight(device.leafWeight)]
    if (own !== undefined) either('weight_device', `${deviceName(device)} ${own}`, field)
    if (leaf !== undefined) {
      list.add('blkio', 'blkio.leaf_weight_device', `${deviceName(device)} ${leaf}`, `blockIO/${field}`)
    }
  })
  for (const [field, file] of throttles) {
    limits[field]?.forEach((device, index) => {
      const value = `${deviceName(device)} ${device.rate ?? 0}`
      list.add('blkio', `blkio.throttle.${file}`, value, `blockIO/${field}/${index}`)
    })
  }
}

const throttles = [
  ['throttleReadBpsDevice', 'read_bps_device'],
  ['throttleWriteBpsDevice', 'write_bps_device'],
  ['throttleReadIOPSDevice', 'read_iops_device'],
  ['throttleWriteIOPSDevice', 'write_iops_device'],
] as const

function weight(value: number | undefined): number | undefined {
  return value === 0 ? undefined : value
}
