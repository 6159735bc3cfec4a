import { mkdir, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Readable } from 'node:stream'
import { DigestMismatchError, SizeMismatchError } from '../errors.ts'
import type { Descriptor } from '../image/descriptor.ts'
import { complete } from './complete.ts'
import type { ReceiveOptions } from './interfaces.ts'
import type { PartialFiles } from './partial-files.ts'
import { syncFolder } from './publish.ts'

/**
 * Makes the file `path` of content that arrives, with what has arrived of it before. It is seen whole
 * or not at all. When the source fails or the caller aborts, what there is stays among `partials`; nothing
 * does of content that is not what it should be, or that the disk does not take.
 */
export async function assemble(
  partials: PartialFiles,
  path: string,
  descriptor: Descriptor,
  open: (offset: number) => Promise<Readable>,
  options: ReceiveOptions & { readonly sync: boolean },
): Promise<void> {
  let failure: unknown
  const note = (error: unknown): void => {
    failure ??= error
  }
  const opened = async (offset: number): Promise<Readable> => {
    const source = await open(offset).catch((error: unknown) => {
      note(error)
      throw error
    })
    return source.once('error', note)
  }
  await mkdir(dirname(path), { recursive: true })
  const partial = await partials.take(descriptor.digest)
  try {
    const { onWritten, ...rest } = options
    const written = (bytes: number): void => onWritten?.(partial.path, bytes)
    await complete(partial.file, descriptor, opened, { ...rest, onWritten: written })
    // All of it may have come long ago; whoever collects what nobody needs goes by this time.
    await partial.file.utimes(new Date(), new Date())
    if (options.sync) await partial.file.datasync()
    await rename(partial.path, path)
  } catch (error) {
    const isWrong = error instanceof DigestMismatchError || error instanceof SizeMismatchError
    const isCutOff = error === failure || options.signal?.aborted === true
    await (isCutOff && !isWrong ? partial.keep() : partial.discard())
    throw error
  }
  await partial.discard()
  if (options.sync) await syncFolder(dirname(path))
}
