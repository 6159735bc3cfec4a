import type { Readable } from 'node:stream'
import { verified } from '../../content/verify.ts'
import type { Descriptor } from '../../image/descriptor.ts'
import { Fault } from '../fault.ts'
import type { StoredBlob, StoredUpload } from '../storage.ts'

/** How much is gathered before it is written: bytes, and chunks. */
const batchSize = 256 * 1024
const batchLength = 128

/** Where a download goes, and where it is found when it is complete. */
export interface DownloadTarget {
  readonly upload: StoredUpload
  /** Opens the blob in the storage. */
  open(): Promise<StoredBlob | undefined>
}

/**
 * A blob that is being fetched: it goes to the storage, and at the same time to everybody who wants
 * it. Its last byte is given away only when all of it has been verified and stored.
 */
export class Download {
  readonly #descriptor: Descriptor
  readonly #target: DownloadTarget
  /** Bytes that are written. */
  #written = 0
  #state: 'running' | 'storing' | 'done' | { readonly error: unknown } = 'running'
  readonly #waiting = new Set<() => void>()

  constructor(descriptor: Descriptor, target: DownloadTarget) {
    this.#descriptor = descriptor
    this.#target = target
  }

  /** Fetches the blob. Rejects when that fails; so do those who read it then. */
  async run(source: Readable, signal: AbortSignal | undefined): Promise<void> {
    const { upload } = this.#target
    try {
      let batch: Uint8Array[] = []
      let size = 0
      const write = async (): Promise<void> => {
        await upload.write(batch)
        this.#written += size
        batch = []
        size = 0
        this.#tell()
      }
      for await (const chunk of verified(this.#descriptor, source, { signal })) {
        batch.push(chunk as Uint8Array)
        size += (chunk as Uint8Array).byteLength
        if (size >= batchSize || batch.length >= batchLength) await write()
      }
      if (size > 0) await write()
      this.#state = 'storing'
      await upload.commit(this.#descriptor.digest)
      this.#state = 'done'
    } catch (error) {
      this.#state = { error }
      await upload.abort().catch(() => {})
      throw error
    } finally {
      this.#tell()
    }
  }

  /** The blob, for one who reads it. */
  open(): StoredBlob {
    const { size } = this.#descriptor
    return { size, read: (start, end) => this.#read(start, end), close: async () => {} }
  }

  #read(start: number, end: number): ReadableStream<Uint8Array> {
    const chunks = this.#follow(start, end)
    return new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          const next = await chunks.next()
          if (next.done) controller.close()
          else controller.enqueue(next.value)
        },
        async cancel() {
          await chunks.return(undefined)
        },
      },
      { highWaterMark: 0 },
    )
  }

  /** The bytes from `start` to `end`, as they come. */
  async *#follow(start: number, end: number): AsyncGenerator<Uint8Array, undefined> {
    let position = start
    while (position < end && this.#state !== 'done') {
      const ready = Math.min(end, this.#written, this.#descriptor.size - 1)
      // Where the file is while it gets its name nobody knows: then it is waited for.
      if (ready <= position || this.#state !== 'running') {
        await this.#progress()
        continue
      }
      for await (const chunk of this.#partial(position)) {
        const part = chunk.subarray(0, ready - position)
        position += part.byteLength
        yield part
        if (position >= ready) break
      }
    }
    if (position < end) yield* this.#stored(position, end)
    return undefined
  }

  /** What is written; cut short when the download comes to its end and its file goes. */
  async *#partial(position: number): AsyncGenerator<Uint8Array> {
    try {
      yield* this.#target.upload.read(position)
    } catch (error) {
      if (this.#state === 'running') throw error
    }
  }

  async *#stored(start: number, end: number): AsyncGenerator<Uint8Array> {
    const blob = await this.#target.open()
    if (blob === undefined) throw new Fault('BLOB_UNKNOWN', `${this.#descriptor.digest} was removed meanwhile`)
    const reader = blob.read(start, end).getReader()
    try {
      for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value
    } finally {
      await reader.cancel().catch(() => {})
    }
  }

  /** Resolves when there is more, or it is all over. */
  async #progress(): Promise<void> {
    if (this.#state === 'running' || this.#state === 'storing')
      await new Promise<void>((resolve) => this.#waiting.add(resolve))
    if (typeof this.#state === 'object') throw this.#state.error
  }

  #tell(): void {
    for (const resolve of this.#waiting) resolve()
    this.#waiting.clear()
  }
}
