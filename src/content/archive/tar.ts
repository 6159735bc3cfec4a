import type { Header } from 'tar-stream'
import { ArchiveError, LimitError } from '../../errors.ts'

/** Size of the blocks that tar consists of, in bytes. */
export const blockSize = 512

/** Bytes of the headers of one entry, extended ones included, at most. */
const maxHeaderBytes = 64 * 1024

/** Characters of an entry's name at most: the longest path that Linux knows. */
const maxNameLength = 4096

/** What the headers of one entry say. */
export interface TarEntry {
  /** As it stands there; bytes that are no UTF-8 are U+FFFD. */
  readonly name: string
  readonly type: 'file' | 'link' | 'symlink' | 'directory' | 'other'
  /** Bytes of content that follow the headers, in blocks; 0 for a directory. */
  readonly size: number
  /** Target of a link; else empty. */
  readonly linkName: string
}

/**
 * Reads the headers of the next entry, block by block; undefined at the end of the archive. Only
 * headers go through the library: the content is the caller's to pass on, or to seek over.
 * @throws ArchiveError for what is no header. @throws LimitError
 */
export async function readHeader(nextBlock: () => Promise<Buffer | undefined>): Promise<TarEntry | undefined> {
  let block = await nextBlock()
  if (block === undefined || block.every((byte) => byte === 0)) return undefined
  const { extract } = await import('tar-stream')
  // With this mark every block is answered by `drain`: after it, the block has been understood.
  const options = { highWaterMark: 1, allowUnknownFormat: true }
  const parser = extract(options)
  let failed: (error: Error) => void = () => {}
  parser.on('error', (error) => failed(error))
  let header: Header | undefined
  parser.on('entry', (found, content) => {
    content.on('error', () => {})
    header = found
  })
  try {
    for (let bytes = blockSize; ; bytes += blockSize) {
      if (block === undefined) throw new ArchiveError('it is cut short')
      if (bytes > maxHeaderBytes) throw new LimitError('headers of an archive entry', maxHeaderBytes, 'bytes')
      const given = block
      await new Promise<void>((resolve, reject) => {
        failed = reject
        parser.once('drain', resolve)
        parser.write(given)
      })
      // The library says so from within the write.
      const found = header as Header | undefined
      if (found !== undefined) return toEntry(found)
      block = await nextBlock()
    }
  } catch (error) {
    if (error instanceof ArchiveError || error instanceof LimitError) throw error
    if (!(error instanceof Error) || 'errno' in error || !/header/i.test(error.message)) throw error
    if (/max size/.test(error.message)) throw new LimitError('headers of an archive entry', maxHeaderBytes, 'bytes')
    throw new ArchiveError('it is no tar archive, or damaged', undefined, { cause: error })
  } finally {
    failed = () => {}
    parser.destroy()
  }
}

function toEntry({ name, type, size = 0, linkname }: Header): TarEntry {
  if (name.length > maxNameLength || (linkname?.length ?? 0) > maxNameLength) {
    throw new LimitError('name of an archive entry', maxNameLength, 'characters')
  }
  if (!Number.isSafeInteger(size) || size < 0) throw new ArchiveError(`its size ${size} is no number of bytes`, name)
  const common = { name, linkName: linkname ?? '' }
  switch (type) {
    case 'directory':
      return { ...common, type, size: 0 }
    case 'link':
    case 'symlink':
      return { ...common, type, size }
    case 'file':
    case 'contiguous-file':
      return { ...common, type: 'file', size }
    default:
      return { ...common, type: 'other', size }
  }
}

/** Bytes that fill the last block of content. */
export function padding(size: number): number {
  return (blockSize - (size % blockSize)) % blockSize
}

/** A tar archive that is being written. */
export interface TarWriter {
  /** The archive's bytes; ends after {@link TarWriter.finish}. */
  readonly output: AsyncIterable<Uint8Array>
  directory(name: string): Promise<void>
  /** Writes a file of exactly `size` bytes. Files are written one after the other. */
  file(name: string, size: number, content: AsyncIterable<Uint8Array> | Uint8Array): Promise<void>
  finish(): void
  destroy(error: Error): void
}

/** Starts an archive whose bytes depend on names and contents only: no times, owners or modes of files. */
export async function writeTar(): Promise<TarWriter> {
  const { pack } = await import('tar-stream')
  const archive = pack({ highWaterMark: 1 << 20 })
  archive.on('error', () => {})
  const common = { uid: 0, gid: 0, mtime: new Date(0) }
  return {
    // It is one, though its types do not say so.
    output: archive as unknown as AsyncIterable<Uint8Array>,
    directory: (name) =>
      new Promise((resolve, reject) => {
        const done = (error?: Error | null): void => (error ? reject(error) : resolve())
        archive.entry({ ...common, name, type: 'directory', mode: 0o755 }, done)
      }),
    async file(name, size, content) {
      // Settles when the entry is complete, which for an empty one is at once.
      let settled: (error?: Error | null) => void = () => {}
      const done = new Promise<void>((resolve, reject) => {
        settled = (error) => (error ? reject(error) : resolve())
      })
      done.catch(() => {})
      const entry = archive.entry({ ...common, name, size, type: 'file', mode: 0o644 }, settled)
      entry.on('error', () => {})
      try {
        for await (const chunk of content instanceof Uint8Array ? [content] : content) {
          if (entry.destroyed || entry.write(chunk)) continue
          await new Promise<void>((resolve) => {
            entry.once('drain', resolve)
            entry.once('close', resolve)
          })
        }
        entry.end(undefined)
      } catch (error) {
        archive.destroy(error as Error)
        throw error
      }
      await done
    },
    finish: () => archive.finalize(),
    destroy: (error) => {
      archive.destroy(error)
    },
  }
}
