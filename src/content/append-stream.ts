import type { FileHandle } from 'node:fs/promises'
import { finished, type Readable } from 'node:stream'
import { freePiece, hasOwnPieces } from './own-pieces.ts'
import { batchSize, writeChunks } from './write-stream.ts'

/** Milliseconds after which bytes are written, however few they are. */
const flushInterval = 500

/** What {@link appendStream} tells. */
export interface AppendListener {
  /** A piece has come and is going to be written; unless this throws, which ends it. */
  onChunk(chunk: Uint8Array): void
  /** So many bytes more are in the file. */
  onWritten(bytes: number): void
}

/**
 * Writes a stream to the end of a file, for content that is worth keeping as far as it came: what came of a stream that
 * fails is written as well, and what comes slowly is written soon. One batch is written while the next is collected.
 * The pieces are taken as they come, with no stream or iterator in between: for each of those, a gigabyte
 * costs a tenth more. Rejects with what `listener` or the file threw, or with the stream's error.
 */
export async function appendStream(file: FileHandle, source: Readable, listener: AppendListener): Promise<void> {
  let batch: Uint8Array[] = []
  let size = 0
  let writing: Promise<void> | undefined
  let failure: { readonly error: unknown } | undefined
  const fail = (error: unknown): void => {
    failure ??= { error }
    // Without the error, which is none of the source's.
    source.destroy()
  }
  const writeBatch = async (): Promise<void> => {
    const [chunks, bytes] = [batch, size]
    batch = []
    size = 0
    if (source.isPaused()) source.resume()
    await writeChunks(file, chunks)
    if (hasOwnPieces(source)) chunks.forEach(freePiece)
    listener.onWritten(bytes)
  }
  const write = (): void => {
    if (writing !== undefined || size === 0) return
    writing = writeBatch()
      .catch(fail)
      .finally(() => {
        writing = undefined
        if (size >= batchSize) write()
      })
  }
  const onData = (chunk: Uint8Array): void => {
    if (failure !== undefined) return
    try {
      listener.onChunk(chunk)
    } catch (error) {
      fail(error)
      return
    }
    batch.push(chunk)
    size += chunk.byteLength
    if (size < batchSize) return
    if (writing === undefined) write()
    else source.pause()
  }
  const timer = setInterval(write, flushInterval)
  const broken = await new Promise<Error | null | undefined>((resolve) => {
    finished(source, { writable: false }, resolve)
    source.on('data', onData)
  })
  clearInterval(timer)
  while (writing !== undefined) await writing
  // Before what it has to say is known, nobody must take it for complete.
  if (failure === undefined && size > 0) await writeBatch().catch(broken ? () => {} : fail)
  if (failure !== undefined) throw failure.error
  if (broken) throw broken
}
