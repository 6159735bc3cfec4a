import type { Digest } from '../image/digest.ts'
import type { StoredBlob, StoredUpload } from './storage.ts'

/** How much of a blob one read of a response takes, in bytes. */
const readSize = 256 * 1024

/** What an upload needs of the storage. */
export interface MemoryUploadTarget {
  reserve(size: number): void
  commit(digest: Digest, bytes: Buffer): void
}

/** An upload in memory. */
export class MemoryUpload implements StoredUpload {
  size = 0
  readonly #target: MemoryUploadTarget
  #chunks: Uint8Array[] = []

  constructor(target: MemoryUploadTarget) {
    this.#target = target
  }

  async write(chunks: readonly Uint8Array[]): Promise<void> {
    const size = chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0)
    this.#target.reserve(size)
    // A copy: the chunks may be small parts of large buffers.
    this.#chunks.push(Buffer.concat(chunks))
    this.size += size
  }

  async *read(start = 0): AsyncGenerator<Uint8Array> {
    let skip = start
    for (const chunk of this.#chunks) {
      if (skip < chunk.byteLength) yield chunk.subarray(skip)
      skip = Math.max(0, skip - chunk.byteLength)
    }
  }

  async commit(digest: Digest): Promise<void> {
    // From here the blob answers for the bytes.
    this.#target.commit(digest, Buffer.concat(this.#chunks, this.size))
    this.#chunks = []
    this.size = 0
  }

  async pause(): Promise<void> {}

  async abort(): Promise<void> {
    this.#target.reserve(-this.size)
    this.#chunks = []
    this.size = 0
  }
}

/** Bytes as a blob. */
export function openBytes(bytes: Buffer): StoredBlob {
  return {
    size: bytes.byteLength,
    read(start, end) {
      let position = start
      return new ReadableStream<Uint8Array>({
        pull(controller) {
          const next = Math.min(end, position + readSize)
          if (next > position) controller.enqueue(bytes.subarray(position, next))
          position = next
          if (position === end) controller.close()
        },
      })
    },
    async close() {},
  }
}
