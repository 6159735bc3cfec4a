import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { type CgroupLocation, numbersOf, readCgroupFile, textOf } from '../cgroups/location.ts'
import type { ProcessTotals } from './processes.ts'
import type { HugepageStats, NetworkStats, PidsStats, Pressure, PressureStats, RdmaStats, Stall } from './types.ts'

/** Tasks. */
export function pidsStats(location: CgroupLocation, processes: () => ProcessTotals): PidsStats {
  const read = (name: string): string | undefined => readCgroupFile(location, 'pids', { v1: name, v2: name })?.trim()
  const current = read('pids.current')
  const limit = read('pids.max')
  return {
    current: current === undefined ? processes().threads : Number(current),
    ...(limit === undefined || limit === 'max' ? {} : { limit: Number(limit) }),
  }
}

/** Huge pages of every size that the kernel has. */
export function hugepageStats({ v1, v2 }: CgroupLocation): Readonly<Record<string, HugepageStats>> {
  const inV1 = v1.get('hugetlb')
  const directory = inV1 ?? v2
  if (directory === undefined) return {}
  const current = inV1 === undefined ? /^hugetlb\.(\w+)\.current$/ : /^hugetlb\.(\w+)\.usage_in_bytes$/
  const sizes = namesIn(directory).flatMap((name) => current.exec(name)?.[1] ?? [])
  const entries = sizes.map((size): readonly [string, HugepageStats] => {
    const read = (name: string): string => textOf(join(directory, `hugetlb.${size}.${name}`))?.trim() ?? ''
    const usage = Number(read(inV1 === undefined ? 'current' : 'usage_in_bytes'))
    const max = read(inV1 === undefined ? 'max' : 'limit_in_bytes')
    const failures = inV1 === undefined ? (numbersOf(read('events')).max ?? 0) : Number(read('failcnt'))
    const isLimited = max !== 'max' && Number(max) < 2 ** 62
    return [size, { usage, failures, ...(isLimited ? { limit: Number(max) } : {}) }]
  })
  return Object.fromEntries(entries)
}

function namesIn(directory: string): readonly string[] {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}

/** Lines such as `mlx4_0 hca_handle=1 hca_object=20`. */
export function rdmaStats(location: CgroupLocation): Readonly<Record<string, RdmaStats>> {
  const text = readCgroupFile(location, 'rdma', { v1: 'rdma.current', v2: 'rdma.current' }) ?? ''
  const entries = [...text.matchAll(/^(\S+) hca_handle=(\d+) hca_object=(\d+)/gm)].map(([, name, handles, objects]) => {
    return [name, { hcaHandles: Number(handles), hcaObjects: Number(objects) }]
  })
  return Object.fromEntries(entries)
}

/** Pressure: every cgroup of version 2 has it, also without the controllers. */
export function pressureStats({ v2 }: CgroupLocation): PressureStats {
  if (v2 === undefined) return {}
  const entries = (['cpu', 'memory', 'io'] as const).flatMap((resource) => {
    const pressure = parsePressure(textOf(join(v2, `${resource}.pressure`)))
    return pressure === undefined ? [] : [[resource, pressure]]
  })
  return Object.fromEntries(entries)
}

/** Lines such as `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`. */
export function parsePressure(text = ''): Pressure | undefined {
  const stall = (kind: string): Stall | undefined => {
    const line = new RegExp(`^${kind} avg10=(\\S+) avg60=(\\S+) avg300=(\\S+) total=(\\d+)`, 'm').exec(text)
    if (line === null) return undefined
    const [avg10 = 0, avg60 = 0, avg300 = 0, total = 0] = line.slice(1).map(Number)
    return { avg10, avg60, avg300, total }
  }
  const some = stall('some')
  const full = stall('full')
  return some === undefined ? undefined : { some, ...(full === undefined ? {} : { full }) }
}

/** Interfaces of the network namespace of a process (proc_pid_net(5)). */
export function networkStats(pid: number): Readonly<Record<string, NetworkStats>> {
  const text = textOf(`/proc/${pid}/net/dev`) ?? ''
  const entries = text.split('\n').flatMap((line) => {
    const [, name, rest] = /^\s*([^:\s]+):\s*(.*)$/.exec(line) ?? []
    if (name === undefined || rest === undefined) return []
    const [receivedBytes = 0, receivedPackets = 0, receiveErrors = 0, receiveDropped = 0, , , , , ...sent] = rest
      .split(/\s+/)
      .map(Number)
    const [sentBytes = 0, sentPackets = 0, sendErrors = 0, sendDropped = 0] = sent
    const received = { receivedBytes, receivedPackets, receiveErrors, receiveDropped }
    return [[name, { ...received, sentBytes, sentPackets, sendErrors, sendDropped }] as const]
  })
  return Object.fromEntries(entries)
}
