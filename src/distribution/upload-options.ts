import { InvalidArgumentError } from '../errors.ts'
import { type Bytes, toBytes } from '../internal/units.ts'

/** How blobs are uploaded. */
export interface UploadOptions {
  /**
   * - `put` (default): one request opens the upload, one PUT carries all of it. Every registry can do this.
   * - `post`: content in memory of at most `chunkSize` goes in one request; all else as with `put`.
   * - `patch`: in chunks, each of which is held in memory and sent again when the connection drops, so
   *   that a long upload survives. Some registries can't do this, or want chunks of 5 MiB or more.
   */
  readonly method?: 'put' | 'post' | 'patch' | undefined
  /**
   * Bytes of a chunk; default 16 MiB. A registry that announces a larger least length
   * (`OCI-Chunk-Min-Length`) gets that, up to 256 MiB.
   */
  readonly chunkSize?: Bytes | undefined
}

/** {@link UploadOptions} with every default filled in. */
export interface UploadPolicy {
  readonly method: 'put' | 'post' | 'patch'
  readonly chunkSize: number
}

/** The largest chunk that is held in memory, in bytes. */
export const maxChunkSize: number = 256 * 2 ** 20

/** Fills in the defaults. @throws InvalidArgumentError */
export function uploadPolicy({ method = 'put', chunkSize = '16m' }: UploadOptions = {}): UploadPolicy {
  if (!['put', 'post', 'patch'].includes(method)) {
    throw new InvalidArgumentError(`upload.method must be put, post or patch`, { subject: 'upload.method' })
  }
  const bytes = toBytes(chunkSize, 'upload.chunkSize')
  if (bytes >= 1 && bytes <= maxChunkSize) return { method, chunkSize: bytes }
  throw new InvalidArgumentError(`upload.chunkSize must be 1 to ${maxChunkSize} bytes, not ${bytes}`, {
    subject: 'upload.chunkSize',
  })
}
