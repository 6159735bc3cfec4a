import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { Readable, type Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { fileError } from '../../internal/file-error.ts'
import { ownedName, ownOwner } from '../owner.ts'
import { syncFolder } from '../publish.ts'
import { writeStream } from '../write-stream.ts'

/** Where an archive goes. */
export interface Output {
  /** Settles when all bytes are there: in the file, which appears with that, or with the stream, which is ended. */
  readonly done: Promise<void>
}

/**
 * Sends bytes to a file, which appears whole or not at all, or to a stream. When the bytes fail, so
 * does the output: the stream is destroyed, and of the file nothing is left.
 */
export async function sendTo(
  target: string | Writable,
  bytes: AsyncIterable<Uint8Array>,
  options: { readonly compression: 'none' | 'gzip'; readonly sync: boolean },
): Promise<Output> {
  const source = Readable.from(bytes, { objectMode: false, highWaterMark: 1 << 20 })
  const gzip = options.compression === 'gzip' ? createGzip({ chunkSize: 256 * 1024 }) : undefined
  if (typeof target !== 'string') {
    return { done: gzip === undefined ? pipeline(source, target) : pipeline(source, gzip, target) }
  }
  const temporary = join(dirname(target), `.${basename(target)}.${ownedName(await ownOwner())}`)
  let file: FileHandle
  try {
    file = await open(temporary, 'wx', 0o644)
  } catch (error) {
    throw fileError(error, 'making an archive', target)
  }
  const write = async (content: AsyncIterable<Uint8Array>): Promise<void> => {
    await writeStream(file, content)
    if (options.sync) await file.datasync()
  }
  const finish = async (): Promise<void> => {
    try {
      try {
        await (gzip === undefined ? pipeline(source, write) : pipeline(source, gzip, write))
      } finally {
        await file.close()
      }
      await rename(temporary, target)
      if (options.sync) await syncFolder(dirname(target))
    } catch (error) {
      await rm(temporary, { force: true })
      throw fileError(error, 'writing an archive', target)
    }
  }
  return { done: finish() }
}
