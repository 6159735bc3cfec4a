/** What a container uses. Numbers that this host can't tell are missing. */
export interface ContainerStats {
  readonly time: Date
  readonly cpu: CpuStats
  readonly memory: MemoryStats
  readonly pids: PidsStats
  readonly blockIO: BlockIoStats
  /** By page size: `2MB`. */
  readonly hugepages: Readonly<Record<string, HugepageStats>>
  /** By device. */
  readonly rdma: Readonly<Record<string, RdmaStats>>
  readonly pressure: PressureStats
  /** Network interfaces that the first process sees, by name. */
  readonly network: Readonly<Record<string, NetworkStats>>
}

/** Processor time, in microseconds since the container's start. */
export interface CpuStats {
  readonly usage: number
  readonly user: number
  readonly system: number
  /** Periods of the quota that have gone by. */
  readonly periods?: number
  /** Those in which it was stopped. */
  readonly throttledPeriods?: number
  /** For how long. */
  readonly throttledTime?: number
  /** Per processor, on version 1. */
  readonly perCpu?: readonly number[]
}

/** Memory, in bytes. */
export interface MemoryStats {
  readonly usage: number
  /** Usage without the file cache that the kernel gives up first: what Docker and Kubernetes show. */
  readonly workingSet: number
  /** Undefined when there is none. */
  readonly limit?: number
  /** The most that was used at a time. */
  readonly peak?: number
  readonly swap?: number
  readonly swapLimit?: number
  /** Kills of the out-of-memory killer. */
  readonly oomKills?: number
  /** How often the limit was hit. */
  readonly limitHits?: number
  /** All counters of `memory.stat`, by the kernel's names. */
  readonly details: Readonly<Record<string, number>>
  /** `processes` when no cgroup counts it: the sum of what each process has resident. */
  readonly source: 'cgroup' | 'processes'
}

/** Tasks, threads included. */
export interface PidsStats {
  readonly current: number
  /** Undefined when there is none. */
  readonly limit?: number
}

/** Block I/O since the container's start. */
export interface BlockIoStats {
  readonly readBytes: number
  readonly writeBytes: number
  readonly readOperations: number
  readonly writeOperations: number
  readonly devices: readonly BlockDeviceStats[]
}

/** Block I/O of one device. */
export interface BlockDeviceStats {
  readonly major: number
  readonly minor: number
  readonly readBytes: number
  readonly writeBytes: number
  readonly readOperations: number
  readonly writeOperations: number
}

/** Huge pages of one size, in bytes. */
export interface HugepageStats {
  readonly usage: number
  /** Undefined when there is none. */
  readonly limit?: number
  /** How often the limit was hit. */
  readonly failures: number
}

/** What is in use of one RDMA device. */
export interface RdmaStats {
  readonly hcaHandles: number
  readonly hcaObjects: number
}

/** How long tasks waited for a resource (Documentation/accounting/psi.rst). */
export interface PressureStats {
  readonly cpu?: Pressure
  readonly memory?: Pressure
  readonly io?: Pressure
}

/** Pressure on one resource: `some` task waited, or all (`full`). */
export interface Pressure {
  readonly some: Stall
  readonly full?: Stall
}

/** Share of the time that was lost, in percent, and the time itself, in microseconds. */
export interface Stall {
  readonly avg10: number
  readonly avg60: number
  readonly avg300: number
  readonly total: number
}

/** Traffic of one interface. */
export interface NetworkStats {
  readonly receivedBytes: number
  readonly receivedPackets: number
  readonly receiveErrors: number
  readonly receiveDropped: number
  readonly sentBytes: number
  readonly sentPackets: number
  readonly sendErrors: number
  readonly sendDropped: number
}
