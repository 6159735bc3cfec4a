import { LimitError, PlatformError } from '../errors.ts'
import { parseImageConfig } from '../image/config.ts'
import type { Descriptor } from '../image/descriptor.ts'
import { parseIndex } from '../image/image-index.ts'
import { parseManifest } from '../image/manifest.ts'
import { isConfigType, isIndexType, isManifestType } from '../image/media-type.ts'
import { formatPlatform, type Platform, platformMatcher, selectManifest } from '../image/platform.ts'
import type { DocumentReader } from './copy-graph.ts'
import { documentLimits } from './limits.ts'

/** Indexes inside one another that are followed. */
const maxDepth = 8

/** Platforms that an error lists at most. */
const maxListed = 50

/**
 * The manifest for a platform: `named` itself when it is a manifest, else the best entry of the index.
 * Where no index says what platform a manifest is for, its config is asked.
 * @throws PlatformError naming what there is instead.
 */
export async function selectPlatform(
  read: DocumentReader,
  reference: string,
  named: Descriptor,
  wanted: Platform,
): Promise<Descriptor> {
  let current = named
  for (let depth = 0; isIndexType(current.mediaType); depth++) {
    if (depth >= maxDepth) throw new LimitError(current.digest, maxDepth, 'levels of indexes')
    const { manifests } = parseIndex(await read(current, documentLimits.index), current.mediaType).value
    const selected = selectManifest(manifests, wanted)
    if (selected === undefined) {
      const platforms = manifests.flatMap(({ platform }) => (platform === undefined ? [] : [platform]))
      throw new PlatformError(reference, formatPlatform(wanted), describePlatforms(platforms))
    }
    current = selected
  }
  // What an index says of a platform has just been matched; a manifest itself says nothing.
  if (current !== named && current.platform !== undefined) return current
  const actual = await configPlatform(read, current)
  if (actual === undefined || platformMatcher(wanted).matches(actual)) return current
  throw new PlatformError(reference, formatPlatform(wanted), describePlatforms([actual]))
}

/** The platform by an image's config; undefined for what is no image. */
async function configPlatform(read: DocumentReader, descriptor: Descriptor): Promise<Platform | undefined> {
  if (!isManifestType(descriptor.mediaType)) return undefined
  const raw = await read(descriptor, documentLimits.manifest)
  const { config } = parseManifest(raw, descriptor.mediaType).value
  if (!isConfigType(config.mediaType)) return undefined
  return parseImageConfig(await read(config, documentLimits.config)).value
}

/** Platforms for an error: each once. */
export function describePlatforms(platforms: readonly Platform[]): readonly string[] {
  // Attestations stand in an index as images for a platform "unknown".
  const known = platforms.filter(({ os }) => os !== 'unknown').map(formatPlatform)
  return [...new Set(known)].slice(0, maxListed)
}
