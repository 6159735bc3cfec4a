import type { Exclusive } from './file-lock.ts'
import type { ContentOptions } from './interfaces.ts'

/** Options of LayoutStore. */
export interface LayoutOptions extends ContentOptions {
  /**
   * Guards changes of `index.json` against other processes. Default: a lock file in `ingest`. Whoever
   * writes to the same layout must use the same lock.
   */
  readonly lock?: Exclusive | undefined
  /** Whether to wait until content is on the disk before it is seen; default true. */
  readonly sync?: boolean | undefined
  /**
   * Waits until a large file, or the names in a folder, are on the disk. Default: in Node's pool of threads, one of which
   * does nothing else meanwhile.
   * @internal
   */
  readonly syncPath?: ((path: string) => Promise<void>) | undefined
  /** Bytes of `index.json` at most; default 4 MiB. */
  readonly maxIndexBytes?: number | undefined
  /**
   * Whether what has arrived of a large blob is kept when the rest does not come, so that the next copy, in
   * any process, fetches the rest only; default true. It stays in `ingest` for a day, of 16 blobs at most.
   */
  readonly resumable?: boolean | undefined
}

/** Options of LayoutStore.tag. */
export interface TagOptions extends ContentOptions {
  /** Whether what the reference named before stays listed, without a name if it has no other. Default false. */
  readonly keepReplaced?: boolean | undefined
}
