import type { FileHandle } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { DigestMismatchError, UnsupportedError } from '../errors.ts'
import type { Descriptor } from '../image/descriptor.ts'
import { createDigester, type Digester, digestAlgorithm } from '../image/digest.ts'
import { hasCode } from '../internal/file-error.ts'
import { appendStream } from './append-stream.ts'
import type { ReceiveOptions } from './interfaces.ts'
import { destroyOnAbort } from './stream-abort.ts'
import { type Begun, Verification } from './verify.ts'

/** Options of {@link complete}. */
export interface CompleteOptions extends Omit<ReceiveOptions, 'onWritten'> {
  /** Told how many bytes the file has. */
  readonly onWritten?: ((bytes: number) => void) | undefined
}

/** Bytes that are read at a time when what is there is hashed: a millisecond's work. */
const readSize = 1024 * 1024

/**
 * Completes a file, opened for reading and appending, that has the beginning of some content, or nothing.
 * What is there is hashed, never trusted: when the whole is not what its digest says, and when the
 * source can't begin in the middle, it is fetched once more from the beginning.
 * @throws DigestMismatchError, SizeMismatchError; what `open` throws. The file then has what has arrived.
 */
export async function complete(
  file: FileHandle,
  descriptor: Descriptor,
  open: (offset: number) => Promise<Readable>,
  options: CompleteOptions,
): Promise<void> {
  const digester = createDigester(digestAlgorithm(descriptor.digest))
  const had = await hashFile(file, digester, descriptor.size, options.signal)
  try {
    if (had > 0) {
      options.onResume?.(had)
      options.onWritten?.(had)
    }
    if (had > 0 && had === descriptor.size) assertDigest(descriptor, digester)
    else await append(file, descriptor, { digester, bytes: had }, await open(had), options)
    return
  } catch (error) {
    const again = error instanceof DigestMismatchError || error instanceof UnsupportedError
    if (had === 0 || !again) throw error
  }
  await file.truncate(0)
  options.onResume?.(0)
  options.onWritten?.(0)
  const begun = { digester: createDigester(digestAlgorithm(descriptor.digest)), bytes: 0 }
  await append(file, descriptor, begun, await open(0), options)
}

async function append(
  file: FileHandle,
  descriptor: Descriptor,
  begun: Begun,
  source: Readable,
  { signal, onBytes, onWritten }: CompleteOptions,
): Promise<void> {
  const verification = new Verification(descriptor, begun)
  let written = begun.bytes
  try {
    await appendStream(file, destroyOnAbort(source, signal), {
      onChunk(chunk) {
        verification.add(chunk)
        onBytes?.(chunk.byteLength)
      },
      onWritten(bytes) {
        written += bytes
        onWritten?.(written)
      },
    })
  } catch (error) {
    const isShort = source.errored === null && hasCode(error, 'ERR_STREAM_PREMATURE_CLOSE')
    throw isShort ? verification.shortage() : error
  } finally {
    source.destroy()
  }
  verification.end()
}

function assertDigest({ digest }: Descriptor, digester: Digester): void {
  const actual = digester.digest()
  if (actual !== digest) throw new DigestMismatchError(digest, actual)
}

/** Hashes what the file has; empties one that has more than it may. Returns its bytes. */
async function hashFile(
  file: FileHandle,
  digester: Digester,
  size: number,
  signal: AbortSignal | undefined,
): Promise<number> {
  const { size: found } = await file.stat()
  if (found === 0) return 0
  if (found > size) {
    await file.truncate(0)
    return 0
  }
  const buffer = new Uint8Array(Math.min(readSize, found))
  for (let at = 0; ; ) {
    signal?.throwIfAborted()
    const { bytesRead } = await file.read(buffer, 0, buffer.byteLength, at)
    if (bytesRead === 0) return at
    digester.update(buffer.subarray(0, bytesRead))
    at += bytesRead
  }
}
