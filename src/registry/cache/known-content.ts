import type { Descriptor } from '../../image/descriptor.ts'
import type { Digest } from '../../image/digest.ts'
import { parsePushedManifest } from '../manifest-content.ts'
import type { RegistryStorage } from '../storage.ts'

/** Descriptors that are remembered. */
const maxDescriptors = 50_000

/** The descriptors of blobs, out of the manifests that name them. */
export class KnownContent {
  readonly #storage: RegistryStorage
  readonly #descriptors = new Map<string, Descriptor>()

  constructor(storage: RegistryStorage) {
    this.#storage = storage
  }

  /** Notes what a manifest of the repository names. */
  add(repository: string, content: readonly Descriptor[]): void {
    for (const { mediaType, digest, size } of content) {
      const key = `${repository}@${digest}`
      this.#descriptors.delete(key)
      this.#descriptors.set(key, { mediaType, digest, size })
    }
    for (const key of this.#descriptors.keys()) {
      if (this.#descriptors.size <= maxDescriptors) break
      this.#descriptors.delete(key)
    }
  }

  /** The descriptor of a blob that a manifest of the repository names; undefined when none in the storage does. */
  async find(repository: string, digest: Digest): Promise<Descriptor | undefined> {
    const key = `${repository}@${digest}`
    const known = this.#descriptors.get(key)
    if (known !== undefined) return known
    // After a restart: the manifests are in the storage.
    for await (const entry of this.#storage.maintenance?.manifests(repository) ?? []) {
      const manifest = await this.#storage.getManifest(repository, entry.digest)
      if (manifest === undefined) continue
      const { content } = parsePushedManifest(manifest.raw, entry.digest, manifest.mediaType)
      if (!content.some((descriptor) => descriptor.digest === digest)) continue
      this.add(repository, content)
      return this.#descriptors.get(key)
    }
    return undefined
  }
}
