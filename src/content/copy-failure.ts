import type { Descriptor } from '../image/descriptor.ts'

/** Where a copy failed. */
export interface CopyFailure {
  /** The side that failed; content that is not what its descriptor says is the source's fault. */
  readonly side: 'source' | 'target'
  /** The content that was being read or written. */
  readonly descriptor: Descriptor
}

/** Errors keep their class and code, which callers go by; where they happened is noted on them under this. */
const key = Symbol.for('oci-ts.copy-failure')

/** Which side and which content an error of `copy` is about; undefined when it is about neither. */
export function copyFailure(error: unknown): CopyFailure | undefined {
  return typeof error === 'object' && error !== null ? Reflect.get(error, key) : undefined
}

/** Notes where an error happened, unless that is known already. Printing the error shows it. */
export function noteFailure(error: unknown, failure: CopyFailure): void {
  if (!(error instanceof Error) || key in error || !Object.isExtensible(error)) return
  Object.defineProperty(error, key, { value: failure, enumerable: true })
}
