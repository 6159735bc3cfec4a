import { Arrivals } from '../content/arrivals.ts'
import type { DocumentReader } from '../content/copy-graph.ts'
import type { ContentStore, Receiver } from '../content/interfaces.ts'
import { readAll } from '../content/verify.ts'
import type { Descriptor } from '../image/descriptor.ts'
import type { Store, UnpackOptions } from '../store/index.ts'
import { type Image, parseImage } from './image.ts'
import type { PullProgress } from './pull.ts'

/**
 * Unpacks an image while it is fetched. A layer is published only when its blob has been verified, and what it unpacks to
 * as well.
 */
export class EarlyUnpack {
  readonly target: ContentStore & Receiver
  readonly #arrivals: Arrivals
  readonly #store: Store
  readonly #report: (progress: PullProgress) => void
  readonly #stop = new AbortController()
  readonly #signal: AbortSignal
  #work: Promise<boolean> | undefined

  constructor(
    store: Store,
    content: ContentStore & Receiver,
    signal: AbortSignal,
    report: (progress: PullProgress) => void,
  ) {
    this.#arrivals = new Arrivals(content)
    this.target = this.#arrivals.target
    this.#store = store
    this.#signal = AbortSignal.any([signal, this.#stop.signal])
    this.#report = report
  }

  begin(descriptor: Descriptor, raw: Uint8Array): void {
    this.#work ??= this.#unpack(descriptor, raw).then(
      () => true,
      // What is wrong will be told when all of it is there, and has been verified.
      () => false,
    )
  }

  /** Waits until it is done, now that everything is there; whether it is. */
  async end(): Promise<boolean> {
    this.#arrivals.over()
    return (await this.#work) ?? false
  }

  /** Gives up what is not done. */
  async close(): Promise<void> {
    this.#stop.abort()
    await this.#work
  }

  async #unpack(descriptor: Descriptor, raw: Uint8Array): Promise<void> {
    const read: DocumentReader = (of, limit) => readAll(this.#arrivals, of, limit, { signal: this.#signal })
    const image = await parseImage(read, '', descriptor, raw)
    await unpackReporting(this.#store, image, { content: this.#arrivals }, this.#signal, this.#report)
  }
}

/** Unpacks an image and tells how far it is. */
export async function unpackReporting(
  store: Store,
  image: Image,
  from: Pick<UnpackOptions, 'content'>,
  signal: AbortSignal,
  report: (progress: PullProgress) => void,
): Promise<void> {
  const done = new Map<string, number>()
  await store.unpack(image.manifest, image.config, {
    ...from,
    signal,
    onProgress({ kind, layer, compressed }) {
      const bytes = kind === 'done' || kind === 'skipped' ? layer.size : compressed
      done.set(layer.digest, bytes)
      const transferred = [...done.values()].reduce((sum, value) => sum + value, 0)
      report({ phase: 'unpack', kind, descriptor: layer, bytes, transferred, total: image.size })
    },
  })
}
