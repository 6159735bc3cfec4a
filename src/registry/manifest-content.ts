import type { Descriptor } from '../image/descriptor.ts'
import type { Digest } from '../image/digest.ts'
import type { ImageIndex } from '../image/image-index.ts'
import { type ImageManifest, parseManifestOrIndex, successors } from '../image/manifest.ts'
import { isForeignLayerType } from '../image/media-type.ts'
import type { Referrer } from './storage.ts'

/** What the registry needs to know of a manifest that is pushed. */
export interface PushedManifest {
  readonly mediaType: string
  /** All that it names. */
  readonly content: readonly Descriptor[]
  /** Content that must be in the repository already. */
  readonly required: ReadonlySet<Digest>
  /** Set when the manifest has a subject. */
  readonly referrer: Referrer | undefined
}

/**
 * Reads a manifest or index.
 * @param mediaType The type it was sent as.
 * @throws SpecError
 */
export function parsePushedManifest(raw: Uint8Array, digest: Digest, mediaType: string | undefined): PushedManifest {
  const parsed = parseManifestOrIndex(raw, mediaType)
  const { subject } = parsed.value
  // Foreign layers are fetched from elsewhere; clients don't push them.
  const content = successors(parsed)
  const required = content.filter((descriptor) => !isForeignLayerType(descriptor.mediaType))
  return {
    mediaType: parsed.mediaType,
    content,
    required: new Set(required.map((descriptor) => descriptor.digest)),
    referrer: subject && {
      subject: subject.digest,
      descriptor: describe(parsed.value, { mediaType: parsed.mediaType, digest, size: raw.byteLength }),
    },
  }
}

/** The entry that the referrers API lists (distribution-spec, "Listing Referrers"). */
function describe(manifest: ImageManifest | ImageIndex, descriptor: Descriptor): Descriptor {
  const config = 'config' in manifest ? manifest.config.mediaType : undefined
  const artifactType = manifest.artifactType || config
  return {
    ...descriptor,
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(manifest.annotations === undefined ? {} : { annotations: manifest.annotations }),
  }
}
