import { randomUUID } from 'node:crypto'
import { NotFoundError } from '../../errors.ts'
import type { Descriptor } from '../../image/descriptor.ts'
import { Fault } from '../fault.ts'
import type { RegistryStorage, StoredBlob } from '../storage.ts'
import { Download } from './download.ts'
import type { Upstream } from './upstream.ts'

export interface DownloadsOptions {
  readonly storage: RegistryStorage
  /** Downloads at a time. */
  readonly max: number
  readonly signal: AbortSignal | undefined
  /** Called when a blob has been stored, or could not be. */
  readonly onEnd: (repository: string, error: unknown) => void
}

/** The blobs that are being fetched, each once however many want it. */
export class Downloads {
  readonly #options: DownloadsOptions
  readonly #running = new Map<string, Promise<Download | undefined>>()

  constructor(options: DownloadsOptions) {
    this.#options = options
  }

  /** A blob that is fetched now, or is already on its way; undefined when the other registry does not have it. */
  async open(repository: string, descriptor: Descriptor, upstream: Upstream): Promise<StoredBlob | undefined> {
    const key = `${repository}@${descriptor.digest}`
    let starting = this.#running.get(key)
    if (starting === undefined) {
      if (this.#running.size >= this.#options.max) {
        throw new Fault('TOOMANYREQUESTS', 'too many blobs are being fetched', { headers: { 'Retry-After': '5' } })
      }
      starting = this.#start(key, repository, descriptor, upstream)
      this.#running.set(key, starting)
    }
    return (await starting)?.open()
  }

  async #start(
    key: string,
    repository: string,
    descriptor: Descriptor,
    upstream: Upstream,
  ): Promise<Download | undefined> {
    const { storage, signal, onEnd } = this.#options
    try {
      const source = await upstream.fetch(descriptor, { signal })
      // It may fail before anybody reads it.
      source.on('error', () => {})
      const upload = await storage.createUpload(repository, randomUUID()).catch((error: unknown) => {
        source.destroy()
        throw error
      })
      const download = new Download(descriptor, {
        upload,
        open: () => storage.openBlob(repository, descriptor.digest),
      })
      download
        .run(source, signal)
        .then(
          () => onEnd(repository, undefined),
          (error: unknown) => onEnd(repository, error),
        )
        .finally(() => this.#running.delete(key))
      return download
    } catch (error) {
      this.#running.delete(key)
      if (error instanceof NotFoundError) return undefined
      throw error
    }
  }
}
