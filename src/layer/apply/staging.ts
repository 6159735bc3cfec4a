/** Memory that the target's process sees as well, at `address`. */
export interface StagingMemory {
  readonly bytes: Buffer
  readonly address: number
}

/** A part of the memory, for the content of one batch. */
export type Slab = number

/** Bytes of a slab. */
const slabSize = 512 * 1024

/**
 * Content of files on its way to the target's process: it is copied into memory that both see, and calls
 * name its address. Each batch has a slab of its own until it is answered.
 */
export class Staging {
  readonly #memory: StagingMemory
  readonly #free: Slab[]
  #slab: Slab | undefined
  #used = 0

  constructor(memory: StagingMemory) {
    this.#memory = memory
    this.#free = Array.from({ length: Math.floor(memory.bytes.length / slabSize) }, (_, index) => index)
  }

  /** Whether the slab of the present batch has room for `size` more bytes, or no slab has been begun. */
  fits(size: number): boolean {
    return this.#used === 0 || this.#used + size <= slabSize
  }

  /** Copies content into the slab of the present batch: its address; undefined when no slab has room. */
  stage(content: Uint8Array): number | undefined {
    if (this.#used + content.length > slabSize) return undefined
    this.#slab ??= this.#free.pop()
    if (this.#slab === undefined) return undefined
    const at = this.#slab * slabSize + this.#used
    this.#memory.bytes.set(content, at)
    this.#used += content.length
    return this.#memory.address + at
  }

  /** The present batch is complete: its slab, if it has one, is to be handed to {@link release} when it is answered. */
  take(): Slab | undefined {
    const slab = this.#slab
    this.#slab = undefined
    this.#used = 0
    return slab
  }

  release(slab: Slab | undefined): void {
    if (slab !== undefined) this.#free.push(slab)
  }
}
