import type { Descriptor } from '../image/descriptor.ts'
import type { Digest } from '../image/digest.ts'
import { isIndex, parseManifestOrIndex } from '../image/manifest.ts'
import { isIndexType, isManifestType } from '../image/media-type.ts'

/** A manifest or index that is about another one. */
export interface Referrer {
  /** Digest of what it is about. */
  readonly subject: Digest
  /** As a list of referrers shows it: with its type and annotations. */
  readonly descriptor: Descriptor
}

/** Whether content of this type can name a subject. */
export function mayRefer({ mediaType }: Descriptor): boolean {
  return isManifestType(mediaType) || isIndexType(mediaType)
}

/**
 * What a manifest or index with a `subject` is in a list of referrers (distribution-spec, "Listing
 * Referrers"); undefined for one without, and for what can't be read.
 */
export function referrerOf({ mediaType, digest, size }: Descriptor, raw: Uint8Array): Referrer | undefined {
  try {
    const parsed = parseManifestOrIndex(raw, mediaType)
    const { subject, annotations } = parsed.value
    if (subject === undefined) return undefined
    const artifactType = parsed.value.artifactType ?? (isIndex(parsed) ? undefined : parsed.value.config.mediaType)
    return {
      subject: subject.digest,
      descriptor: {
        mediaType,
        digest,
        size,
        ...(artifactType === undefined ? {} : { artifactType }),
        ...(annotations === undefined ? {} : { annotations }),
      },
    }
  } catch {
    return undefined
  }
}

/** Those of a subject and type, each once. */
export function* selectReferrers(
  referrers: Iterable<Referrer>,
  subject: Digest,
  artifactType: string | undefined,
): Generator<Descriptor, void, undefined> {
  const seen = new Set<Digest>()
  for (const { subject: of, descriptor } of referrers) {
    if (of !== subject || seen.has(descriptor.digest)) continue
    if (artifactType !== undefined && descriptor.artifactType !== artifactType) continue
    seen.add(descriptor.digest)
    yield descriptor
  }
}
