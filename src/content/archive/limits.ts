import { ArchiveError, LimitError } from '../../errors.ts'
import { type Bytes, toBytes } from '../../internal/units.ts'
import type { ContentOptions } from '../interfaces.ts'
import { isDocument } from './paths.ts'
import type { TarEntry } from './tar.ts'

/** Bounds on an archive, which may be hostile. */
export interface ArchiveLimits {
  /** Bytes of all it holds, decompressed, at most. Default 64 GiB. */
  readonly maxBytes?: Bytes | undefined
  /** Entries at most. Default 100,000. */
  readonly maxEntries?: number | undefined
}

/** Options of `openArchive`. */
export interface ArchiveOptions extends ContentOptions, ArchiveLimits {
  /** Directory for what must be kept in a file while it is read. Default that of the system. */
  readonly temporaryDirectory?: string | undefined
}

/** Keeps count of an archive's entries. */
export class EntryCounter {
  readonly #maxBytes: number
  readonly #maxEntries: number
  readonly #documents: Set<string> = new Set()
  #bytes = 0
  #entries = 0

  constructor(limits: ArchiveLimits) {
    this.#maxBytes = maxBytesOf(limits)
    this.#maxEntries = limits.maxEntries ?? 100_000
  }

  /** @throws LimitError. @throws ArchiveError when a file that says what there is comes a second time. */
  count(path: string, { size }: TarEntry): void {
    this.#entries++
    this.#bytes += size
    if (this.#entries > this.#maxEntries) throw new LimitError('archive', this.#maxEntries, 'entries')
    if (this.#bytes > this.#maxBytes) throw new LimitError('archive', this.#maxBytes, 'bytes')
    if (!isDocument(path)) return
    if (this.#documents.has(path)) throw new ArchiveError('it occurs twice', path)
    this.#documents.add(path)
  }
}

/** @throws InvalidArgumentError */
export function maxBytesOf({ maxBytes }: ArchiveLimits): number {
  return toBytes(maxBytes ?? '64g', 'maxBytes')
}
