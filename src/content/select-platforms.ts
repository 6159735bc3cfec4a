import { PlatformError } from '../errors.ts'
import { type Descriptor, descriptorOf } from '../image/descriptor.ts'
import { parseIndex } from '../image/image-index.ts'
import { isIndexType } from '../image/media-type.ts'
import { formatPlatform, type Platform, selectManifest } from '../image/platform.ts'
import type { DocumentReader } from './copy-graph.ts'
import { documentLimits } from './limits.ts'
import { describePlatforms, selectPlatform } from './select-platform.ts'

/** What is copied of an index. */
export interface Selection {
  readonly root: Descriptor
  /** Content of the root, when it was made here. */
  readonly raw?: Uint8Array
}

/** Annotation that an attestation's entry has, made by BuildKit, with the digest of its image. */
const attested = 'vnd.docker.reference.digest'

/**
 * The images of an index for several platforms, as an index with their entries only, in their order
 * and with the attestations of each; the same selection makes the same index. When that is all there
 * is, it is the index itself. A manifest is taken as it is when it is for one of the platforms.
 * @throws PlatformError for a platform that there is no image for.
 */
export async function selectPlatforms(
  read: DocumentReader,
  reference: string,
  named: Descriptor,
  wanted: readonly Platform[],
): Promise<Selection> {
  if (!isIndexType(named.mediaType)) return { root: await selectOne(read, reference, named, wanted) }
  const { value, mediaType } = parseIndex(await read(named, documentLimits.index), named.mediaType)
  const chosen = new Set(
    wanted.map((platform) => {
      const selected = selectManifest(value.manifests, platform)
      if (selected !== undefined) return selected.digest
      const platforms = value.manifests.flatMap((entry) => entry.platform ?? [])
      throw new PlatformError(reference, formatPlatform(platform), describePlatforms(platforms))
    }),
  )
  const manifests = value.manifests.filter(
    ({ digest, annotations }) => chosen.has(digest) || [...chosen].some((image) => annotations?.[attested] === image),
  )
  if (manifests.length === value.manifests.length) return { root: named }
  const raw = Buffer.from(JSON.stringify({ ...value, manifests }))
  const { artifactType } = value
  return { root: descriptorOf(mediaType, raw, artifactType === undefined ? {} : { artifactType }), raw }
}

async function selectOne(
  read: DocumentReader,
  reference: string,
  named: Descriptor,
  wanted: readonly Platform[],
): Promise<Descriptor> {
  let failure: unknown
  for (const platform of wanted) {
    try {
      return await selectPlatform(read, reference, named, platform)
    } catch (error) {
      if (!(error instanceof PlatformError)) throw error
      failure ??= error
    }
  }
  throw failure
}
