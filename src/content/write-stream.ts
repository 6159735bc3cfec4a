import type { FileHandle } from 'node:fs/promises'
import type { Readable } from 'node:stream'

/** Bytes that are collected for one write: the cost is by the call. */
const batchSize = 1 << 20

/** Milliseconds after which bytes are written that are to be kept whatever happens. */
const flushInterval = 500

/**
 * Writes a stream to a file that stays open. `createWriteStream` is no way to do that: with `autoClose: false`
 * it keeps the handle for good, and closing the handle waits for it without end (Node 20).
 *
 * `keep`: what has come of a stream that fails is written as well, and what comes slowly is written soon.
 * `onWritten` is told the bytes of each write.
 */
export async function writeStream(
  file: FileHandle,
  source: Readable | AsyncIterable<Uint8Array>,
  { keep = false, onWritten }: { readonly keep?: boolean; readonly onWritten?: (bytes: number) => void } = {},
): Promise<void> {
  let batch: Uint8Array[] = []
  let size = 0
  let written = Promise.resolve()
  const flush = (): Promise<void> => {
    if (size === 0) return written
    const [chunks, bytes] = [batch, size]
    batch = []
    size = 0
    written = written.then(() => writeChunks(file, chunks)).then(() => onWritten?.(bytes))
    return written
  }
  // A failure stays, and shows at the next flush.
  const timer = keep ? setInterval(() => flush().catch(() => {}), flushInterval) : undefined
  try {
    for await (const chunk of source as AsyncIterable<Uint8Array>) {
      batch.push(chunk)
      size += chunk.byteLength
      if (size >= batchSize) await flush()
    }
    await flush()
  } finally {
    clearInterval(timer)
    if (keep) await flush().catch(() => {})
  }
}

async function writeChunks(file: FileHandle, chunks: readonly Uint8Array[]): Promise<void> {
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
