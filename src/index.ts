/**
 * Everything Docker does with containers, in this process: no daemon, no other program.
 *
 * ```ts
 * const image = await pull('docker.io/library/alpine:3.20')
 * await using box = await run(image, { command: ['echo', 'hello'], memory: '64m' })
 * ```
 *
 * @module oci-ts
 */

export type * from './bundle/options.ts'
export type { LimitOptions } from './bundle/resources.ts'
export type { LoadedImage } from './content/archive/load.ts'
export type { Admission, CopyCandidate, CopyProgress, CopyTotals } from './content/copy.ts'
export type {
  ContentOptions,
  ContentStore,
  Fetcher,
  FetchOptions,
  Pusher,
  Resolver,
  Tagger,
} from './content/interfaces.ts'
export type { Operation } from './content/operation.ts'
export type { LoadOptions, SaveOptions } from './engine/archives.ts'
export type { CommitOptions } from './engine/commit.ts'
export { Container, type KillOptions, type StatsOptions, type StopOptions } from './engine/container.ts'
export type { CopyFilesOptions } from './engine/container-files.ts'
export type { ConvertOptions } from './engine/convert.ts'
export type { ContainerSummary } from './engine/detached.ts'
export {
  attach,
  check,
  containers,
  createEngine,
  createPool,
  diskUsage,
  type Engine,
  type EngineOptions,
  type EngineVolumes,
  images,
  prune,
  pull,
  push,
  removeImage,
  repair,
  run,
  tag,
  volumes,
} from './engine/engine.ts'
export type { ExecOptions, ExecResult, SpawnOptions, TtyOption } from './engine/exec-options.ts'
export type { FileChange } from './engine/file-changes.ts'
export type { FindImageOptions } from './engine/find.ts'
export type { HistoryStep } from './engine/history.ts'
export type { RunHooks } from './engine/hooks.ts'
export type { Image } from './engine/image.ts'
export type { ImageVerbs } from './engine/image-verbs.ts'
export type { ImportOptions } from './engine/import.ts'
export type { LogLine, OutputName } from './engine/line-splitter.ts'
export type { NewImageOptions } from './engine/new-image.ts'
export type { LogOptions } from './engine/output.ts'
export { ContainerPool, type ContainerPoolOptions, type PooledRunOptions } from './engine/pool.ts'
export { ContainerProcess } from './engine/process.ts'
export type { PruneOptions, PruneReport } from './engine/prune.ts'
export type { FetchProgress, PullOperation, PullOptions, PullProgress, UnpackProgress } from './engine/pull.ts'
export type { PushedImage, PushOperation, PushOptions } from './engine/push.ts'
export type { RepairOptions } from './engine/repair.ts'
export type { RunOptions } from './engine/run-options.ts'
export type { SquashOptions } from './engine/squash.ts'
export type { UsageSample } from './engine/usage-sample.ts'
export { commit, convert, history, importRootfs, inspect, load, save, squash } from './engine/verbs.ts'
export type { ImportVolumeOptions } from './engine/volume-archive.ts'
export type { HostMountOption, RunMountOption, VolumeMountOption } from './engine/volume-mounts.ts'
export { type WaitStrategy, type WaitTarget, wait } from './engine/wait.ts'
export * from './errors.ts'
export type { Bytes, Duration } from './internal/units.ts'
export type { CompressOptions } from './layer/compress.ts'
export type { Compression } from './layer/decompress.ts'
export type { DiffWarning } from './layer/diff/upper.ts'
export type { PressureTrigger } from './runtime/cgroups/pressure.ts'
export type { ContainerEvent, EventsOptions } from './runtime/events.ts'
export { type LearnedCall, Learning, type LearnReport } from './runtime/learn/learning.ts'
export type { ResourceUsage } from './runtime/resource-usage.ts'
export type * from './runtime/stats/types.ts'
export { isSupported, type Support } from './runtime/support.ts'
export type {
  SeccompArchitecture,
  SyscallAnswer,
  SyscallHandler,
  SyscallHandlers,
  WaitingSyscall,
} from './runtime/syscalls/types.ts'
export type { ProcessInfo } from './runtime/top.ts'
export type {
  BlobFinding,
  CheckOptions,
  CheckReport,
  Collected,
  ContainerFinding,
  ContainerUsage,
  CreateVolumeOptions,
  DiskUsage,
  DocumentFinding,
  Finding,
  ImageFilters,
  ImageSummary,
  ImageUsage,
  IndexFinding,
  LabelFilters,
  LayerFinding,
  ListImagesOptions,
  ListVolumesOptions,
  PruneVolumesOptions,
  PruneVolumesReport,
  RemovedImage,
  RemoveImageOptions,
  RemoveVolumeOptions,
  Repair,
  RepairReport,
  Volume,
  VolumeUsage,
} from './store/index.ts'
