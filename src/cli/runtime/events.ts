import { type ContainerStats, events, stats } from '../../runtime/index.ts'
import type { Arguments } from '../arguments.ts'
import { type Command, type Context, idOf } from '../command.ts'
import { writeTo } from '../output.ts'

/** `oci-ts events`. */
export const eventsCommand: Command = {
  summary: 'Prints what a container uses, and when it ran out of memory, as lines of JSON.',
  positionals: 'ID',
  count: [1, 1],
  options: {
    stats: { kind: 'flag', help: 'Print what it uses now, and end' },
    interval: { kind: 'text', value: 'TIME', help: 'Time between two lines. Default: 5s' },
  },
  run,
}

async function run(args: Arguments, { stateRoot }: Context): Promise<number> {
  const id = idOf(args)
  if (args.flag('stats')) {
    write('stats', id, statsData(await stats(id, { stateRoot })))
    return 0
  }
  const interval = (args.text('interval') ?? '5s') as `${number}s`
  for await (const event of events(id, { stateRoot, interval })) {
    if (event.type === 'stats') write('stats', id, statsData(event.stats))
    else write(event.type, id)
  }
  return 0
}

function write(type: string, id: string, data?: unknown): void {
  writeTo(1, `${JSON.stringify({ type, id, data })}\n`)
}

/** The statistics in the shape, and the units, that runc gives them. */
function statsData({ cpu, memory, pids, blockIO, hugepages, network, pressure }: ContainerStats): unknown {
  const nanoseconds = (microseconds: number): number => microseconds * 1000
  const io = (read: 'readBytes' | 'readOperations', written: 'writeBytes' | 'writeOperations') =>
    blockIO.devices.flatMap((device) => [
      { major: device.major, minor: device.minor, op: 'Read', value: device[read] },
      { major: device.major, minor: device.minor, op: 'Write', value: device[written] },
    ])
  return {
    cpu: {
      usage: {
        total: nanoseconds(cpu.usage),
        user: nanoseconds(cpu.user),
        kernel: nanoseconds(cpu.system),
        percpu: cpu.perCpu?.map(nanoseconds),
      },
      throttling: {
        periods: cpu.periods,
        throttledPeriods: cpu.throttledPeriods,
        throttledTime: cpu.throttledTime === undefined ? undefined : nanoseconds(cpu.throttledTime),
      },
      psi: pressure.cpu,
    },
    memory: {
      usage: { usage: memory.usage, limit: memory.limit ?? 0, max: memory.peak, failcnt: memory.limitHits ?? 0 },
      swap: { usage: memory.swap ?? 0, limit: memory.swapLimit ?? 0, failcnt: 0 },
      raw: memory.details,
      psi: pressure.memory,
    },
    pids,
    blkio: {
      ioServiceBytesRecursive: io('readBytes', 'writeBytes'),
      ioServicedRecursive: io('readOperations', 'writeOperations'),
      psi: pressure.io,
    },
    hugetlb: Object.fromEntries(
      Object.entries(hugepages).map(([size, { usage, limit, failures }]) => [
        size,
        { usage, max: limit, failcnt: failures },
      ]),
    ),
    network_interfaces: Object.entries(network).map(([Name, each]) => ({
      Name,
      RxBytes: each.receivedBytes,
      RxPackets: each.receivedPackets,
      RxErrors: each.receiveErrors,
      RxDropped: each.receiveDropped,
      TxBytes: each.sentBytes,
      TxPackets: each.sentPackets,
      TxErrors: each.sendErrors,
      TxDropped: each.sendDropped,
    })),
  }
}
