import { join } from 'node:path'
import { type CgroupLocation, textOf } from '../cgroups/location.ts'
import type { ProcessTotals } from './processes.ts'
import type { BlockDeviceStats, BlockIoStats } from './types.ts'

/** Block I/O as the controller counts it; the sum over the processes that there are, where there is none. */
export function blockIoStats({ v1, v2 }: CgroupLocation, processes: () => ProcessTotals): BlockIoStats {
  const directory = v1.get('blkio')
  const text = v2 === undefined ? undefined : textOf(join(v2, 'io.stat'))
  if (directory !== undefined) return sum(v1Devices(directory))
  if (text !== undefined) return sum(v2Devices(text))
  const { readBytes, writeBytes } = processes()
  return { readBytes, writeBytes, readOperations: 0, writeOperations: 0, devices: [] }
}

function sum(devices: readonly BlockDeviceStats[]): BlockIoStats {
  const total = (of: (device: BlockDeviceStats) => number): number => devices.reduce((all, each) => all + of(each), 0)
  return {
    readBytes: total((device) => device.readBytes),
    writeBytes: total((device) => device.writeBytes),
    readOperations: total((device) => device.readOperations),
    writeOperations: total((device) => device.writeOperations),
    devices,
  }
}

/** Lines such as `8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0`. */
function v2Devices(text: string): readonly BlockDeviceStats[] {
  return text.split('\n').flatMap((line) => {
    const [device, ...fields] = line.trim().split(' ')
    const [major, minor] = (device ?? '').split(':').map(Number)
    if (major === undefined || minor === undefined || fields.length === 0) return []
    const value = (name: string): number =>
      Number(fields.find((field) => field.startsWith(`${name}=`))?.split('=')[1] ?? 0)
    const [readBytes, writeBytes] = [value('rbytes'), value('wbytes')]
    return [{ major, minor, readBytes, writeBytes, readOperations: value('rios'), writeOperations: value('wios') }]
  })
}

/** Lines such as `8:16 Read 1459200`; the throttling files count also what has no scheduler. */
function v1Devices(directory: string): readonly BlockDeviceStats[] {
  const read = (name: string): string =>
    textOf(join(directory, `blkio.throttle.${name}_recursive`)) ??
    textOf(join(directory, `blkio.throttle.${name}`)) ??
    ''
  const [bytes, operations] = [read('io_service_bytes'), read('io_serviced')]
  const names = new Set([...`${bytes}\n${operations}`.matchAll(/^(\d+:\d+) /gm)].map(([, name]) => name as string))
  const value = (text: string, name: string, kind: string): number =>
    Number(new RegExp(`^${name} ${kind} (\\d+)$`, 'm').exec(text)?.[1] ?? 0)
  return [...names].map((name) => {
    const [major = 0, minor = 0] = name.split(':').map(Number)
    return {
      major,
      minor,
      readBytes: value(bytes, name, 'Read'),
      writeBytes: value(bytes, name, 'Write'),
      readOperations: value(operations, name, 'Read'),
      writeOperations: value(operations, name, 'Write'),
    }
  })
}
