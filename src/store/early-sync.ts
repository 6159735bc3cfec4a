import type { Digest } from '../image/digest.ts'
import type { UnpackProgress } from './layers.ts'

/** Bytes of files after which they are put on the disk. */
const enough = 48 * 2 ** 20

/**
 * Has what is being unpacked put on the disk while the rest is still coming, so that little is left to wait for at
 * the end. Only a help: whoever needs it on the disk still waits for that, and is told when it fails.
 */
export class EarlySync {
  readonly #sync: () => Promise<void>
  readonly #sizes = new Map<Digest, number>()
  #since = 0
  #running: Promise<void> | undefined

  constructor(sync: () => Promise<void>) {
    this.#sync = sync
  }

  /** Hears of the progress of layers. */
  note({ kind, layer, size }: UnpackProgress): void {
    if (kind === 'skipped') return
    this.#since += size - (this.#sizes.get(layer.digest) ?? 0)
    this.#sizes.set(layer.digest, size)
    if (this.#since < enough || this.#running !== undefined) return
    this.#since = 0
    this.#running = this.#sync()
      .catch(() => {})
      .finally(() => {
        this.#running = undefined
      })
  }

  /** Waits for what is under way. */
  async end(): Promise<void> {
    await this.#running
  }
}
