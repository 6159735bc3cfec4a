/**
 * Images on disk: blobs and references in an OCI image layout, layers unpacked once for all images that share
 * them, writable layers for containers. Many processes may use one store; none needs a daemon.
 */

export type { NamedDescriptor } from '../content/layout.ts'
export type { LayerWarning } from '../layer/apply/planner.ts'
export { type CompleteLimits, defaultLimits, type LayerLimits } from '../layer/limits.ts'
export type { IdMap, IdMaps } from '../linux/id-maps.ts'
export type { CheckOptions } from './check.ts'
export type { ContainerUsage, DiskUsage, ImageUsage, VolumeUsage } from './disk-usage.ts'
export type {
  BlobFinding,
  CheckReport,
  ContainerFinding,
  DocumentFinding,
  Finding,
  IndexFinding,
  LayerFinding,
} from './findings.ts'
export type { Collected } from './garbage.ts'
export type { ImageSummary, ListImagesOptions } from './images.ts'
export type { LabelFilters } from './labels.ts'
export type { UnpackOptions, UnpackProgress } from './layers.ts'
export type { Lease } from './lease.ts'
export type { ImageFilters, PruneOptions, PruneReport } from './prune.ts'
export type { RemovedImage, RemoveImageOptions } from './remove-image.ts'
export type { Repair, RepairOptions, RepairReport } from './repair.ts'
export type { Rootfs, RootfsOptions } from './rootfs.ts'
export { openStore, Store, type StoreOptions } from './store.ts'
export type { UnpackedImage } from './unpack.ts'
export type {
  CreateVolumeOptions,
  ListVolumesOptions,
  PruneVolumesOptions,
  PruneVolumesReport,
  RemoveVolumeOptions,
  Volume,
  Volumes,
} from './volumes.ts'
export type { WantedVolume } from './wanted-volume.ts'
export type { WritableLayer, WritableOptions } from './writable.ts'
