import { createReadStream } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import type { Digest } from '../image/digest.ts'
import { unlinkIfExists } from './disk-files.ts'
import type { StoredBlob, StoredUpload } from './storage.ts'

/** How much of a file one read takes, in bytes. */
const readSize = 128 * 1024

/** Opens a file as a blob. It can be read to its end, even when it is removed meanwhile. */
export async function openFile(file: string): Promise<StoredBlob> {
  const handle = await open(file, 'r')
  try {
    const { size } = await handle.stat()
    return { size, read: (start, end) => readHandle(handle, start, end), close: () => handle.close() }
  } catch (error) {
    await handle.close()
    throw error
  }
}

function readHandle(handle: FileHandle, start: number, end: number): ReadableStream<Uint8Array> {
  let position = start
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const want = Math.min(readSize, end - position)
        const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafeSlow(want), 0, want, position)
        position += bytesRead
        if (bytesRead > 0) controller.enqueue(buffer.subarray(0, bytesRead))
        // A file that lost its end gives less than its length was announced as: the client sees that.
        if (bytesRead > 0 && position < end) return
        controller.close()
      } catch (error) {
        controller.error(error)
      }
      await handle.close()
    },
    cancel: () => handle.close(),
  })
}

/** An upload in a file. */
export class DiskUpload implements StoredUpload {
  size: number
  readonly #file: string
  readonly #publish: (digest: Digest) => Promise<void>
  #handle: FileHandle | undefined

  /** @param publish Gives the file its name as a blob. */
  constructor(file: string, size: number, publish: (digest: Digest) => Promise<void>) {
    this.#file = file
    this.size = size
    this.#publish = publish
  }

  async write(chunks: readonly Uint8Array[]): Promise<void> {
    const handle = await this.#open()
    let rest = chunks
    while (rest.length > 0) {
      const { bytesWritten } = await handle.writev(rest, this.size)
      this.size += bytesWritten
      rest = after(rest, bytesWritten)
    }
  }

  async *read(start = 0): AsyncGenerator<Uint8Array> {
    yield* createReadStream(this.#file, { start, highWaterMark: readSize })
  }

  async commit(digest: Digest): Promise<void> {
    const handle = await this.#open()
    await handle.sync()
    await this.#publish(digest)
    await this.abort()
  }

  async pause(): Promise<void> {
    const handle = this.#handle
    this.#handle = undefined
    await handle?.close()
  }

  async abort(): Promise<void> {
    await this.pause()
    await unlinkIfExists(this.#file)
  }

  async #open(): Promise<FileHandle> {
    this.#handle ??= await open(this.#file, 'r+')
    return this.#handle
  }
}

/** The chunks without their first `count` bytes. */
function after(chunks: readonly Uint8Array[], count: number): readonly Uint8Array[] {
  let skip = count
  for (const [index, chunk] of chunks.entries()) {
    if (skip < chunk.byteLength) return [chunk.subarray(skip), ...chunks.slice(index + 1)]
    skip -= chunk.byteLength
  }
  return []
}
