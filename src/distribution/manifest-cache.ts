import type { Digest } from '../image/digest.ts'

/** Bytes that are kept in all. */
const capacity = 8 * 1024 * 1024

/**
 * Manifests that have just been sent or received, by digest, so that tagging what was pushed and
 * fetching what was resolved cost no second transfer. Only verified bytes go in; the oldest go first.
 */
export class ManifestCache {
  readonly #manifests: Map<Digest, Uint8Array> = new Map()
  #size = 0

  get(digest: Digest): Uint8Array | undefined {
    return this.#manifests.get(digest)
  }

  set(digest: Digest, bytes: Uint8Array): void {
    if (this.#manifests.has(digest)) return
    this.#manifests.set(digest, bytes)
    this.#size += bytes.byteLength
    for (const [oldest, { byteLength }] of this.#manifests) {
      if (this.#size <= capacity) break
      this.#manifests.delete(oldest)
      this.#size -= byteLength
    }
  }
}
