import type { Call } from '../../linux/call.ts'

/** Memory that the target's process sees as well, at `address`. */
export interface StagingMemory {
  readonly bytes: Buffer
  readonly address: number
}

/** A part of the memory, for the content of one batch. */
export type Slab = number

/** Bytes of a slab. */
const slabSize = 512 * 1024
/** Content shorter than this goes with the calls. Bytes. */
const threshold = 512

/**
 * Content of files on its way to the target's process: it lies in memory that both see, and calls name
 * its address. Each batch has a slab of its own until it is answered; when all are in use, content goes
 * with the calls.
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

  /** Whether `size` bytes fit, perhaps into a slab that is free. */
  fits(size: number): boolean {
    return this.#used + size <= slabSize && (this.#slab !== undefined || this.#free.length > 0)
  }

  /** Whether `size` bytes do not fit into the slab of the present batch, but may into that of the next one. */
  overflows(size: number): boolean {
    return this.#slab !== undefined && this.#used + size > slabSize
  }

  /** The same call with its content in the present slab; it must fit. */
  staged(call: Call, content: Uint8Array): Call {
    this.#slab ??= this.#free.pop() as Slab
    const at = this.#slab * slabSize + this.#used
    this.#memory.bytes.set(content, at)
    this.#used += content.length
    const [fd = 0, , ...rest] = call.args
    return { ...call, args: [fd, this.#memory.address + at, ...rest] }
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

/** What a call writes, when it is worth staging. */
export function contentOf({ name, args }: Call): Uint8Array | undefined {
  const content = name === 'write' ? args[1] : undefined
  return content instanceof Uint8Array && content.length >= threshold ? content : undefined
}
