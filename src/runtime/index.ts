/**
 * Containers by the runtime-spec: a bundle's config.json becomes processes in namespaces, with limits,
 * a root filesystem and a life cycle. Linux only.
 *
 * @module oci-ts/runtime
 */

export type { Arg, Call, Out, Struct, Word } from '../linux/call.ts'
export { audit } from './audit/audit.ts'
export type { AuditFinding } from './audit/finding.ts'
export type { PressureTrigger } from './cgroups/pressure.ts'
export { RuntimeContainer } from './container.ts'
export { type CreateOptions, createContainer } from './create.ts'
export { type CheckpointOptions, checkpoint } from './criu/checkpoint.ts'
export type { CriuOptions } from './criu/options.ts'
export { type RestoreOptions, restore } from './criu/restore.ts'
export { type DeleteOptions, deleteContainer } from './delete.ts'
export { type DryRunOptions, formatPlan, type PlannedBatch, plan } from './dry-run.ts'
export { type ContainerEvent, type EventsOptions, events } from './events.ts'
export { type ExecOptions, type ExecProcess, exec } from './exec.ts'
export type { SubCgroupPath } from './exec-cgroups.ts'
export { features, type HostFeatures, type RuntimeFeatures } from './features.ts'
export type { HookContext, HookFunction, HookFunctions, HookKind } from './hooks.ts'
export { kill } from './kill.ts'
export { killAll } from './kill-all.ts'
export { type LearnedCall, Learning, type LearnReport } from './learn/learning.ts'
export { addMount, removeMount } from './live-mounts.ts'
export { type ContainerState, containerSpec, type LookupOptions, listContainers, state } from './lookup.ts'
export type { OverlayRootfs } from './overlay.ts'
export { type PauseOptions, pause, resume } from './pause.ts'
export { createPool, Pool, type PoolOptions } from './pool.ts'
export { prepare } from './prepare.ts'
export type { ResourceUsage } from './resource-usage.ts'
export type { PoolProcess, PoolRunOptions } from './run-plan.ts'
export { type ProcessStatus, RuntimeProcess } from './runtime-process.ts'
export { start } from './start.ts'
export { stats } from './stats/stats.ts'
export type {
  BlockDeviceStats,
  BlockIoStats,
  ContainerStats,
  CpuStats,
  HugepageStats,
  MemoryStats,
  NetworkStats,
  PidsStats,
  Pressure,
  PressureStats,
  RdmaStats,
  Stall,
} from './stats/types.ts'
export { isSupported, type Support } from './support.ts'
export type {
  SeccompArchitecture,
  SyscallAnswer,
  SyscallHandler,
  SyscallHandlers,
  WaitingSyscall,
} from './syscalls/types.ts'
export { Terminal } from './terminal.ts'
export { type ProcessInfo, top } from './top.ts'
export { update } from './update.ts'
export { usage, type WaitOptions, wait } from './wait.ts'
