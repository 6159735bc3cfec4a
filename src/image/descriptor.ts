import { DigestMismatchError, InvalidArgumentError, SizeMismatchError } from '../errors.ts'
import { type Digest, type DigestAlgorithm, digestAlgorithm, digestOf, isVerifiable } from './digest.ts'
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

/** Members of a descriptor beyond those that follow from the content. */
export type DescriptorExtra = Omit<Descriptor, 'mediaType' | 'digest' | 'size'>

/** Describes bytes in memory, by their sha256. */
export function descriptorOf(mediaType: string, bytes: Uint8Array, extra: DescriptorExtra = {}): Descriptor {
  return { mediaType, digest: digestOf(bytes), size: bytes.byteLength, ...extra }
}

/**
 * The content that a descriptor carries in its `data`, verified; undefined when it carries none
 * (image-spec, descriptor.md, "Embedded Content").
 * @throws InvalidArgumentError when `data` is no base64, SizeMismatchError or DigestMismatchError
 * when it is other content than the descriptor names.
 */
export function embeddedContent(descriptor: Descriptor): Uint8Array | undefined {
  if (descriptor.data === undefined) return undefined
  const bytes = Buffer.from(descriptor.data, 'base64')
  if (bytes.toString('base64') !== descriptor.data) {
    throw new InvalidArgumentError(`the data of ${descriptor.digest} is not base64 of RFC 4648`, {
      subject: descriptor.digest,
    })
  }
  verifyBytes(descriptor, bytes)
  return bytes
}

/**
 * Checks bytes in memory against a descriptor: the size first, then the digest where its algorithm
 * can be computed.
 * @throws SizeMismatchError
 * @throws DigestMismatchError
 */
export function verifyBytes(descriptor: Descriptor, bytes: Uint8Array): void {
  const { digest, size } = descriptor
  if (bytes.byteLength !== size) throw new SizeMismatchError(digest, size, bytes.byteLength)
  if (!isVerifiable(digest)) return
  const actual = digestOf(bytes, digestAlgorithm(digest) as DigestAlgorithm)
  if (actual !== digest) throw new DigestMismatchError(digest, actual)
}
