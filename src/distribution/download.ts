import { complete } from '../content/complete.ts'
import type { ContentOptions, Fetcher } from '../content/interfaces.ts'
import { DigestMismatchError, InvalidDigestError, SizeMismatchError } from '../errors.ts'
import type { Descriptor } from '../image/descriptor.ts'
import { isVerifiable } from '../image/digest.ts'

/** How a file is downloaded. */
export interface DownloadOptions extends ContentOptions {
  /** Told of every step: bytes that the file has so far. */
  readonly onProgress?: ((bytes: number) => void) | undefined
}

/**
 * Downloads content to a file, and goes on where an earlier call broke off, also one of another
 * process that was killed: what has arrived is in `<path>.partial` until it is complete and its
 * digest is right; then it is renamed. What had arrived is hashed again, never trusted: when the whole
 * is not what its digest says, it is fetched once more from the beginning. One process at a time
 * may download to a path. `copy` to a layout or the store resumes by itself.
 * @throws DigestMismatchError, SizeMismatchError when the source has other content; then nothing is
 * left. InvalidDigestError when the content could not be checked. What the source throws; then the
 * partial file stays for the next call, as it does after an abort.
 */
export async function download(
  source: Fetcher,
  descriptor: Descriptor,
  path: string,
  options: DownloadOptions = {},
): Promise<void> {
  if (!isVerifiable(descriptor.digest)) {
    throw new InvalidDigestError(descriptor.digest, 'content is downloaded only when it can be verified')
  }
  const { signal, onRetry, onProgress } = options
  signal?.throwIfAborted()
  const { open, rename, rm } = await import('node:fs/promises')
  const partial = `${path}.partial`
  const file = await open(partial, 'a+')
  let position = 0
  try {
    await complete(file, descriptor, (offset) => source.fetch(descriptor, { offset, signal, onRetry }), {
      signal,
      onResume(bytes) {
        position = bytes
      },
      onBytes(bytes) {
        position += bytes
        onProgress?.(position)
      },
    })
    await file.sync()
  } catch (error) {
    if (error instanceof DigestMismatchError || error instanceof SizeMismatchError) await rm(partial, { force: true })
    throw error
  } finally {
    await file.close()
  }
  await rename(partial, path)
}
