/**
 * The image-spec, pure: references, digests, platforms, and the documents an image is made of.
 * Loads nothing native and runs on every system.
 */
export { annotation } from './annotations.ts'
export { chainId, chainIds } from './chain-id.ts'
export {
  type ExecutionConfig,
  type Healthcheck,
  type HistoryEntry,
  type ImageConfig,
  parseImageConfig,
} from './config.ts'
export { type Descriptor, type DescriptorExtra, descriptorOf, embeddedContent } from './descriptor.ts'
export {
  createDigester,
  type Digest,
  type DigestAlgorithm,
  type Digester,
  digestAlgorithm,
  digestEncoded,
  digestOf,
  isDigest,
  isVerifiable,
  parseDigest,
} from './digest.ts'
export { type ImageIndex, parseIndex } from './image-index.ts'
export {
  assertLayerCount,
  type ImageManifest,
  isIndex,
  type Parsed,
  parseManifest,
  parseManifestOrIndex,
  successors,
} from './manifest.ts'
export {
  isConfigType,
  isForeignLayerType,
  isIndexType,
  isLayerType,
  isManifestType,
  mediaType,
  mediaTypeEssence,
} from './media-type.ts'
export {
  formatPlatform,
  hostPlatform,
  normalizePlatform,
  type Platform,
  type PlatformMatcher,
  parsePlatform,
  platformMatcher,
  selectManifest,
} from './platform.ts'
export {
  familiarReference,
  formatReference,
  parseReference,
  type Reference,
  withDefaultTag,
} from './reference.ts'
