import type { Writable } from 'node:stream'
import type { Descriptor } from '../../image/descriptor.ts'
import { type CopyOptions, copy } from '../copy.ts'
import type { Fetcher, ReferrersLister, Resolver } from '../interfaces.ts'
import { ArchiveWriter, type ArchiveWriterOptions } from './writer.ts'

/** An image to write, and which part of it. */
export interface ArchiveImage extends Omit<CopyOptions, 'signal' | 'onProgress' | 'concurrency'> {
  readonly source: Fetcher & Resolver & Partial<ReferrersLister>
  /** What to write: a name or digest of the source. */
  readonly reference: string
}

/** Options of {@link writeArchive}. */
export interface WriteArchiveOptions extends ArchiveWriterOptions, Pick<CopyOptions, 'signal' | 'onProgress'> {}

/**
 * Writes images to one archive, in a file or a stream, from wherever they are, with nothing kept in
 * between. Contents that they share are written once. See {@link ArchiveWriter} for its form.
 * Returns what was written for each image. On failure no file is left, and a stream is destroyed.
 *
 * Progress begins anew with each image. Errors are those of `copy`, and of writing.
 */
export async function writeArchive(
  target: string | Writable,
  images: readonly ArchiveImage[],
  options: WriteArchiveOptions = {},
): Promise<readonly Descriptor[]> {
  const { signal, onProgress } = options
  signal?.throwIfAborted()
  const writer = await ArchiveWriter.create(target, options)
  try {
    const written: Descriptor[] = []
    for (const { source, reference, ...what } of images) {
      // One blob at a time fits in: others would only wait with an open connection.
      written.push(await copy(source, reference, writer, { ...what, concurrency: 1, signal, onProgress }))
    }
    await writer.finish()
    return written
  } catch (error) {
    await writer.destroy(error)
    throw error
  }
}
