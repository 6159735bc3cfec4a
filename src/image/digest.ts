import { createHash } from 'node:crypto'
import { InvalidDigestError } from '../errors.ts'

/** A digest string, `algorithm:encoded` (image-spec, descriptor.md, "Digests"). */
export type Digest = `${string}:${string}`

/** The algorithms that can be computed here. */
export type DigestAlgorithm = 'sha256' | 'sha512'

/** Longest digest string that is accepted, in characters; its encoded part is used as a file name. */
const maxLength = 255

const grammar = /^[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+$/

/** Hex digits of the encoded part, for the algorithms that image-spec registers. */
const hexLengths: Readonly<Record<string, number>> = { sha256: 64, sha512: 128, blake3: 64 }

/**
 * Checks a digest by the grammar of image-spec (descriptor.md, "Digests"). The encoded part of a
 * registered algorithm must be lower-case hex of the right length; an unknown algorithm passes.
 * @throws InvalidDigestError
 */
export function parseDigest(text: string): Digest {
  const fault = digestFault(text)
  if (fault !== undefined) throw new InvalidDigestError(text, fault)
  return text as Digest
}

/** Whether {@link parseDigest} accepts the text. */
export function isDigest(text: string): text is Digest {
  return digestFault(text) === undefined
}

/** What is wrong with a digest string; undefined for a good one. */
export function digestFault(text: string): string | undefined {
  if (text.length > maxLength) return `it is longer than ${maxLength} characters`
  if (!grammar.test(text)) return 'it does not have the form algorithm:encoded'
  const algorithm = text.slice(0, text.indexOf(':'))
  const length = Object.hasOwn(hexLengths, algorithm) ? hexLengths[algorithm] : undefined
  if (length === undefined) return undefined
  const encoded = text.slice(algorithm.length + 1)
  if (encoded.length === length && /^[0-9a-f]+$/.test(encoded)) return undefined
  return `the encoded part of ${algorithm} must be ${length} lower-case hex digits`
}

/** The part before the colon: `sha256`. */
export function digestAlgorithm(digest: Digest): string {
  return digest.slice(0, digest.indexOf(':'))
}

/** The part after the colon. */
export function digestEncoded(digest: Digest): string {
  return digest.slice(digest.indexOf(':') + 1)
}

/** Whether content can be checked against this digest here: its algorithm is sha256 or sha512. */
export function isVerifiable(digest: Digest): boolean {
  return isComputable(digestAlgorithm(digest))
}

function isComputable(algorithm: string): algorithm is DigestAlgorithm {
  return algorithm === 'sha256' || algorithm === 'sha512'
}

/** The digest of bytes in memory; sha256 unless told otherwise. */
export function digestOf(bytes: Uint8Array, algorithm: DigestAlgorithm = 'sha256'): Digest {
  const digester = createDigester(algorithm)
  digester.update(bytes)
  return digester.digest()
}

/** Computes a digest of content that comes in pieces. */
export interface Digester {
  /** Adds the next piece. */
  update(chunk: Uint8Array): void
  /** The digest of everything so far. Ends the digester: it can be called once. */
  digest(): Digest
}

/**
 * Starts a digest; sha256 unless told otherwise.
 * @throws InvalidDigestError when the algorithm can't be computed.
 */
export function createDigester(algorithm = 'sha256'): Digester {
  if (!isComputable(algorithm)) {
    throw new InvalidDigestError(`${algorithm}:`, 'only sha256 and sha512 can be computed')
  }
  const hash = createHash(algorithm)
  return {
    update(chunk) {
      hash.update(chunk)
    },
    digest: () => `${algorithm}:${hash.digest('hex')}`,
  }
}
