/**
 * Content and its places: what a registry, the store, a layout directory, an archive and memory have in
 * common, and {@link copy}, which moves images between any two of them.
 *
 * ```ts
 * const layout = await LayoutStore.create('/srv/images')
 * await copy(openRepository('docker.io/library/alpine'), '3.20', layout)
 * await writeArchive('alpine.tar', [{ source: layout, reference: '3.20', as: 'docker.io/library/alpine:3.20' }])
 * ```
 *
 * @packageDocumentation
 */

export { Archive } from './archive/archive.ts'
export type { ArchiveLimits, ArchiveOptions } from './archive/limits.ts'
export { type LoadedImage, type LoadOptions, loadArchive } from './archive/load.ts'
export { openArchive } from './archive/open.ts'
export { type ArchiveImage, type WriteArchiveOptions, writeArchive } from './archive/write.ts'
export { ArchiveWriter, type ArchiveWriterOptions } from './archive/writer.ts'
export {
  type Admission,
  type CopyCandidate,
  type CopyFailure,
  type CopyOperation,
  type CopyOptions,
  type CopyProgress,
  type CopyTarget,
  type CopyTotals,
  copy,
  copyFailure,
} from './copy.ts'
export type {
  ContentOptions,
  ContentStore,
  Fetcher,
  FetchOptions,
  Mounter,
  Pusher,
  ReceiveOptions,
  Receiver,
  ReferrersLister,
  ReferrersOptions,
  Resolver,
  Tagger,
} from './interfaces.ts'
export { type Exclusive, type LayoutOptions, LayoutStore, type NamedDescriptor, type TagOptions } from './layout.ts'
export { MemoryStore, type MemoryStoreOptions } from './memory.ts'
export type { Operation } from './operation.ts'
export { readAll, type VerifyOptions, verified } from './verify.ts'
