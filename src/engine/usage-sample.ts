import { totalmem } from 'node:os'
import type { ContainerStats } from '../runtime/index.ts'

/** What a container uses, as `docker stats` shows it. */
export interface UsageSample {
  readonly time: Date
  /** Share of one processor in the time since the sample before: 150 is one and a half processors. */
  readonly cpuPercent: number
  /** Bytes, without the file cache that the kernel gives up first. */
  readonly memoryUsage: number
  /** Bytes: its limit, or else the memory of this machine. */
  readonly memoryLimit: number
  readonly memoryPercent: number
  /** Bytes since its start, over all interfaces but the loopback one. */
  readonly networkReceived: number
  readonly networkSent: number
  /** Bytes since its start. */
  readonly blockRead: number
  readonly blockWritten: number
  /** Processes and threads. */
  readonly pids: number
  /** All that the kernel tells. */
  readonly details: ContainerStats
}

/** Usage at `now`, with what happened since `before`. */
export function usageBetween(before: ContainerStats, now: ContainerStats): UsageSample {
  const elapsed = (now.time.getTime() - before.time.getTime()) * 1000
  const interfaces = Object.entries(now.network).flatMap(([name, counters]) => (name === 'lo' ? [] : [counters]))
  const memoryLimit = Math.min(now.memory.limit ?? Number.POSITIVE_INFINITY, totalmem())
  const memoryUsage = now.memory.workingSet
  return {
    time: now.time,
    cpuPercent: elapsed <= 0 ? 0 : (Math.max(now.cpu.usage - before.cpu.usage, 0) / elapsed) * 100,
    memoryUsage,
    memoryLimit,
    memoryPercent: (memoryUsage / memoryLimit) * 100,
    networkReceived: interfaces.reduce((all, { receivedBytes }) => all + receivedBytes, 0),
    networkSent: interfaces.reduce((all, { sentBytes }) => all + sentBytes, 0),
    blockRead: now.blockIO.readBytes,
    blockWritten: now.blockIO.writeBytes,
    pids: now.pids.current,
    details: now,
  }
}
