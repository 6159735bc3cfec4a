import type { Descriptor } from '../image/descriptor.ts'

/** A step of a copy. */
export interface CopyProgress {
  /**
   * `found`: a descriptor has come up; `skipped`: the target has it, or it is a foreign layer;
   * `started`, `transferred` (once for each piece that passes), `done`: of a transfer.
   */
  readonly kind: 'found' | 'skipped' | 'started' | 'transferred' | 'done'
  readonly descriptor: Descriptor
  /** Bytes of this descriptor that have passed so far. */
  readonly bytes: number
  /** Bytes of all content that have passed or were skipped. */
  readonly transferred: number
  /** Bytes of all content found so far; grows until every manifest has been read. */
  readonly total: number
}

/** Keeps the sums and tells the listener. */
export class ProgressMeter {
  readonly #listener: ((progress: CopyProgress) => void) | undefined
  #transferred = 0
  #total = 0

  constructor(listener: ((progress: CopyProgress) => void) | undefined) {
    this.#listener = listener
  }

  found(descriptor: Descriptor): void {
    this.#total += descriptor.size
    this.#tell('found', descriptor, 0)
  }

  skipped(descriptor: Descriptor): void {
    this.#transferred += descriptor.size
    this.#tell('skipped', descriptor, 0)
  }

  /** Begins a transfer. */
  started(descriptor: Descriptor): TransferMeter {
    let bytes = 0
    this.#tell('started', descriptor, bytes)
    return {
      add: (more) => {
        bytes += more
        this.#transferred += more
        this.#tell('transferred', descriptor, bytes)
      },
      done: () => {
        // Content in memory passes at once; content that another had brought meanwhile, not at all.
        this.#transferred += descriptor.size - bytes
        this.#tell('done', descriptor, descriptor.size)
      },
    }
  }

  #tell(kind: CopyProgress['kind'], descriptor: Descriptor, bytes: number): void {
    this.#listener?.({ kind, descriptor, bytes, transferred: this.#transferred, total: this.#total })
  }
}

/** Counts the bytes of one transfer. */
export interface TransferMeter {
  add(bytes: number): void
  done(): void
}
