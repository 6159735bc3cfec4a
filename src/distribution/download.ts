import type { FileHandle } from 'node:fs/promises'
import type { ContentOptions, Fetcher } from '../content/interfaces.ts'
import { DigestMismatchError, InvalidDigestError, SizeMismatchError } from '../errors.ts'
import type { Descriptor } from '../image/descriptor.ts'
import { createDigester, type Digest, type Digester, digestAlgorithm, isVerifiable } from '../image/digest.ts'

/** How a file is downloaded. */
export interface DownloadOptions extends ContentOptions {
  /** Told of every step: bytes that the file has so far. */
  readonly onProgress?: ((bytes: number) => void) | undefined
}

/** Bytes that are read at a time when what is there is hashed. */
const readSize = 1024 * 1024

/**
 * Downloads content to a file, and goes on where an earlier call broke off, also one of another
 * process that was killed: what has arrived is in `<path>.partial` until it is complete and its
 * digest is right; then it is renamed. What had arrived is hashed again, never trusted: when the whole
 * is not what its digest says, it is fetched once more from the beginning. One process at a time
 * may download to a path.
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
  options.signal?.throwIfAborted()
  const { open, rename, rm } = await import('node:fs/promises')
  const partial = `${path}.partial`
  const file = await open(partial, 'a+')
  try {
    const { digest: found, had } = await fill(file, source, descriptor, options)
    let digest = found
    if (digest !== descriptor.digest && had > 0) {
      await file.truncate(0)
      digest = (await fill(file, source, descriptor, options)).digest
    }
    if (digest !== descriptor.digest) throw new DigestMismatchError(descriptor.digest, digest)
    await file.sync()
  } catch (error) {
    if (error instanceof DigestMismatchError || error instanceof SizeMismatchError) await rm(partial, { force: true })
    throw error
  } finally {
    await file.close()
  }
  await rename(partial, path)
}

/** Completes the file; its digest, and the bytes it had before. */
async function fill(
  file: FileHandle,
  source: Fetcher,
  descriptor: Descriptor,
  { signal, onProgress }: DownloadOptions,
): Promise<{ readonly digest: Digest; readonly had: number }> {
  const digester = createDigester(digestAlgorithm(descriptor.digest))
  let position = await hashFile(file, digester, descriptor.size)
  const had = position
  if (position < descriptor.size || position === 0) {
    const stream = await source.fetch(descriptor, { offset: position, signal })
    for await (const chunk of stream) {
      const bytes = chunk as Uint8Array
      await file.write(bytes)
      digester.update(bytes)
      position += bytes.byteLength
      if (position > descriptor.size) throw new SizeMismatchError(descriptor.digest, descriptor.size, position)
      onProgress?.(position)
    }
  }
  if (position < descriptor.size) throw new SizeMismatchError(descriptor.digest, descriptor.size, position)
  return { digest: digester.digest(), had }
}

/** Hashes what the file has; empties one that has more than it may. */
async function hashFile(file: FileHandle, digester: Digester, size: number): Promise<number> {
  if ((await file.stat()).size > size) await file.truncate(0)
  const buffer = new Uint8Array(readSize)
  for (let at = 0; ; ) {
    const { bytesRead } = await file.read(buffer, 0, readSize, at)
    if (bytesRead === 0) return at
    digester.update(buffer.subarray(0, bytesRead))
    at += bytesRead
  }
}
