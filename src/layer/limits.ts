import { InvalidArgumentError } from '../errors.ts'

/** Bounds on what a layer may make this machine do. A layer beyond one of them fails with LimitError. */
export interface LayerLimits {
  /** Entries of one layer. Default 2,000,000: the largest images known have about a tenth of it. */
  readonly maxEntries?: number
  /** Bytes of the uncompressed layer. Default 128 GiB. */
  readonly maxSize?: number
  /** Bytes that all files of a layer have together, holes of sparse files included. Default 128 GiB. */
  readonly maxContent?: number
  /**
   * How many times larger the uncompressed layer may be than the compressed one, once it is beyond 64 MiB.
   * Default 2,000: gzip can't do more than 1,032, so this stops only bombs of other formats.
   */
  readonly maxRatio?: number
  /** Components of a path. Default 512. */
  readonly maxDepth?: number
  /** Bytes of one extended header or long name. Default 1 MiB, as in Go's archive/tar. */
  readonly maxHeader?: number
}

/** All limits, each with a value. */
export type CompleteLimits = Required<LayerLimits>

/** The limits that hold where a caller sets none. */
export const defaultLimits: CompleteLimits = {
  maxEntries: 2_000_000,
  maxSize: 128 * 2 ** 30,
  maxContent: 128 * 2 ** 30,
  maxRatio: 2_000,
  maxDepth: 512,
  maxHeader: 2 ** 20,
}

/** Fills in the defaults. @throws InvalidArgumentError for a limit that is no positive integer. */
export function completeLimits(limits: LayerLimits = {}): CompleteLimits {
  const complete = { ...defaultLimits, ...limits }
  for (const [name, value] of Object.entries(complete)) {
    if (!Number.isSafeInteger(value) || value <= 0) {
      throw new InvalidArgumentError(`limits.${name} must be a positive integer, not ${value}`, {
        subject: `limits.${name}`,
      })
    }
  }
  return complete
}
