import type { FileHandle } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { ArchiveError } from '../../errors.ts'
import { fileError } from '../../internal/file-error.ts'

/** Size of the pieces in which a file is read, in bytes. */
const chunkSize = 256 * 1024

/** Part of a file as a stream; the file stays open. Any number of them may read the same file. */
export class FileSlice extends Readable {
  readonly #file: FileHandle
  #position: number
  readonly #end: number

  constructor(file: FileHandle, offset: number, size: number) {
    super({ highWaterMark: chunkSize })
    this.#file = file
    this.#position = offset
    this.#end = offset + size
  }

  override _read(): void {
    this.#next().catch((error: unknown) => this.destroy(fileError(error, 'reading an archive') as Error))
  }

  async #next(): Promise<void> {
    const size = Math.min(chunkSize, this.#end - this.#position)
    if (size === 0) {
      this.push(null)
      return
    }
    const { bytesRead, buffer } = await this.#file.read(Buffer.allocUnsafeSlow(size), 0, size, this.#position)
    if (bytesRead === 0) throw new ArchiveError('it is cut short')
    this.#position += bytesRead
    this.push(buffer.subarray(0, bytesRead))
  }
}
