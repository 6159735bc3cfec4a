import type { FileHandle } from 'node:fs/promises'
import type { Readable } from 'node:stream'

/** Bytes that are collected for one write: the cost is by the call. */
export const batchSize: number = 1 << 20

/**
 * Writes a stream to a file that stays open. `createWriteStream` is no way to do that: with `autoClose: false`
 * it keeps the handle for good, and closing the handle waits for it without end (Node 20).
 */
export async function writeStream(file: FileHandle, source: Readable | AsyncIterable<Uint8Array>): Promise<void> {
  let batch: Uint8Array[] = []
  let size = 0
  for await (const chunk of source as AsyncIterable<Uint8Array>) {
    batch.push(chunk)
    size += chunk.byteLength
    if (size < batchSize) continue
    await writeChunks(file, batch)
    batch = []
    size = 0
  }
  if (size > 0) await writeChunks(file, batch)
}

/** Writes all of several pieces, in order. */
export async function writeChunks(file: FileHandle, chunks: readonly Uint8Array[]): Promise<void> {
  for (let rest = chunks; rest.length > 0; ) rest = remaining(rest, (await file.writev(rest)).bytesWritten)
}

/** What is left to write after `written` bytes: the kernel may take less than it was offered. */
function remaining(chunks: readonly Uint8Array[], written: number): Uint8Array[] {
  let skip = written
  return chunks.flatMap((chunk) => {
    const taken = Math.min(skip, chunk.byteLength)
    skip -= taken
    return taken === chunk.byteLength ? [] : [chunk.subarray(taken)]
  })
}
