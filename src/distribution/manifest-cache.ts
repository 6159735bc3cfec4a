import type { Digest } from '../image/digest.ts'

/** Bytes that are kept in all. */
const capacity = 8 * 1024 * 1024
/** Digests that are kept. */
const maxNames = 10_000

/**
 * Manifests that have just been sent or received, by digest, so that tagging what was pushed and
 * fetching what was resolved cost no second transfer. Only verified bytes go in; the oldest go first.
 * It also knows which digests have been found below `manifests/`, whatever their media type is.
 */
export class ManifestCache {
  readonly #manifests: Map<Digest, Uint8Array> = new Map()
  readonly #names: Set<Digest> = new Set()
  #size = 0

  /** Notes that content is a manifest, of a type that may be unknown. */
  note(digest: Digest): void {
    if (this.#names.size < maxNames) this.#names.add(digest)
  }

  isNoted(digest: Digest): boolean {
    return this.#names.has(digest)
  }

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

  /** Forgets a manifest that is there no longer. */
  delete(digest: Digest): void {
    this.#size -= this.#manifests.get(digest)?.byteLength ?? 0
    this.#manifests.delete(digest)
    this.#names.delete(digest)
  }
}
