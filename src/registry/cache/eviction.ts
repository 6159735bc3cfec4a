import type { Digest } from '../../image/digest.ts'
import type { RegistryStorage, StorageMaintenance } from '../storage.ts'

/** Blobs whose last use is remembered. */
const maxUses = 100_000

/** How much of the limit is left when there was too much, so that not every blob makes us look through all. */
const target = 0.9

interface Candidate {
  readonly repository: string
  readonly digest: Digest
  readonly used: number
}

/** Removes the blobs that were not used for the longest time, when there is too much. */
export class Eviction {
  readonly #storage: RegistryStorage
  readonly #maintenance: StorageMaintenance
  readonly #limit: number
  /** When blobs were last asked for. */
  readonly #uses = new Map<string, number>()
  #running = false

  /** @param limit Bytes. */
  constructor(storage: RegistryStorage, maintenance: StorageMaintenance, limit: number) {
    this.#storage = storage
    this.#maintenance = maintenance
    this.#limit = limit
  }

  /** Notes that a blob is asked for. */
  used(repository: string, digest: Digest): void {
    const key = `${repository}@${digest}`
    this.#uses.delete(key)
    this.#uses.set(key, Date.now())
    const [oldest] = this.#uses.keys()
    if (this.#uses.size > maxUses && oldest !== undefined) this.#uses.delete(oldest)
  }

  /** Makes room when there is too much. */
  async run(): Promise<void> {
    if (this.#running || (await this.#maintenance.usage()) <= this.#limit) return
    this.#running = true
    try {
      for (const { repository, digest } of await this.#candidates()) {
        if ((await this.#maintenance.usage()) <= this.#limit * target) return
        await this.#storage.deleteBlob(repository, digest)
      }
    } finally {
      this.#running = false
    }
  }

  async #candidates(): Promise<Candidate[]> {
    const found: Candidate[] = []
    for (const repository of await this.#storage.listRepositories()) {
      for await (const { digest, changed } of this.#maintenance.blobs(repository)) {
        found.push({ repository, digest, used: this.#uses.get(`${repository}@${digest}`) ?? changed })
      }
    }
    return found.sort((a, b) => a.used - b.used)
  }
}
