import type { Digest } from './digest.ts'
import type { Platform } from './platform.ts'

/** Identifies content by type, digest and size (image-spec, descriptor.md). */
export interface Descriptor {
  /** Media type by RFC 6838. */
  readonly mediaType: string
  readonly digest: Digest
  /** Bytes of the raw content. */
  readonly size: number
  /** Other places the content may be fetched from (foreign layers). */
  readonly urls?: readonly string[]
  readonly annotations?: Readonly<Record<string, string>>
  /** The content itself, base64. */
  readonly data?: string
  /** Platform the referenced image is for; in an index. */
  readonly platform?: Platform
  readonly artifactType?: string
}
