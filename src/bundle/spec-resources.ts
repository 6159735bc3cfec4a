import type { Int64 } from './spec.ts'

/** Limits by cgroup controller (config-linux.md, "Control groups"). */
export interface LinuxResources {
  /** Device access rules, applied in this order. */
  readonly devices?: readonly LinuxDeviceCgroup[]
  readonly memory?: LinuxMemory
  readonly cpu?: LinuxCpu
  readonly pids?: LinuxPids
  readonly blockIO?: LinuxBlockIo
  readonly hugepageLimits?: readonly LinuxHugepageLimit[]
  readonly network?: LinuxNetwork
  /** By device name. */
  readonly rdma?: Readonly<Record<string, LinuxRdma>>
  /** Files of cgroup v2 and what to write to them. */
  readonly unified?: Readonly<Record<string, string>>
}

/** A rule of the device controller. */
export interface LinuxDeviceCgroup {
  readonly allow: boolean
  /** All (`a`), character (`c`) or block (`b`). Default all. */
  readonly type?: 'a' | 'c' | 'b'
  /** All when not set or -1. */
  readonly major?: number
  readonly minor?: number
  /** Letters of `rwm`. */
  readonly access?: string
}

/** Memory, in bytes; -1 is unlimited. */
export interface LinuxMemory {
  readonly limit?: Int64
  /** Soft limit. */
  readonly reservation?: Int64
  /** Memory plus swap. */
  readonly swap?: Int64
  /** @deprecated Not in cgroup v2. */
  readonly kernel?: Int64
  readonly kernelTCP?: Int64
  /** 0 to 100. */
  readonly swappiness?: Int64
  readonly disableOOMKiller?: boolean
  readonly useHierarchy?: boolean
  /** Refuse a new limit that is below the present usage. */
  readonly checkBeforeUpdate?: boolean
}

/** CPU time. Times in microseconds. */
export interface LinuxCpu {
  /** Relative weight, 2 to 262144; 1024 is the kernel's default. */
  readonly shares?: Int64
  /** Time that all tasks together may run in a period; -1 is unlimited. */
  readonly quota?: Int64
  /** Time that may be saved up; not larger than the quota. */
  readonly burst?: Int64
  readonly period?: Int64
  readonly realtimeRuntime?: Int64
  readonly realtimePeriod?: Int64
  /** CPU list such as `0-3,7`. */
  readonly cpus?: string
  /** Node list. */
  readonly mems?: string
  /** 1 for SCHED_IDLE. */
  readonly idle?: Int64
}

/** Number of tasks. */
export interface LinuxPids {
  /** 0 is a real limit, -1 is unlimited. */
  readonly limit?: Int64
}

/** Block I/O. */
export interface LinuxBlockIo {
  /** 10 to 1000. */
  readonly weight?: number
  readonly leafWeight?: number
  readonly weightDevice?: readonly LinuxWeightDevice[]
  /** Bytes per second. */
  readonly throttleReadBpsDevice?: readonly LinuxThrottleDevice[]
  readonly throttleWriteBpsDevice?: readonly LinuxThrottleDevice[]
  /** Operations per second. */
  readonly throttleReadIOPSDevice?: readonly LinuxThrottleDevice[]
  readonly throttleWriteIOPSDevice?: readonly LinuxThrottleDevice[]
}

/** Weight of one device. */
export interface LinuxWeightDevice {
  readonly major: number
  readonly minor: number
  readonly weight?: number
  readonly leafWeight?: number
}

/** Rate of one device, per second. */
export interface LinuxThrottleDevice {
  readonly major: number
  readonly minor: number
  readonly rate?: Int64
}

/** Huge pages of one size. */
export interface LinuxHugepageLimit {
  /** `64KB`, `2MB`, `1GB`. */
  readonly pageSize: string
  /** Bytes. */
  readonly limit: Int64
}

/** Controllers net_cls and net_prio of cgroup v1. */
export interface LinuxNetwork {
  readonly classID?: number
  readonly priorities?: readonly { readonly name: string; readonly priority: number }[]
}

/** Handles and objects of one RDMA device; at least one of them. */
export interface LinuxRdma {
  readonly hcaHandles?: number
  readonly hcaObjects?: number
}
