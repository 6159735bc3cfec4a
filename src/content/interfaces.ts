import type { Readable } from 'node:stream'
import type { Descriptor } from '../image/descriptor.ts'

/** What every operation on content takes. */
export interface ContentOptions {
  /** Aborting rejects with `signal.reason` and leaves nothing behind. */
  readonly signal?: AbortSignal | undefined
  /** Told, with what went wrong, each time that something is tried again: a request, or the rest of a stream. */
  readonly onRetry?: ((reason: unknown) => void) | undefined
}

/** Where in the content to begin. */
export interface FetchOptions extends ContentOptions {
  /** Bytes to skip; default 0. A backend that can't seek throws UnsupportedError for any other value. */
  readonly offset?: number | undefined
}

/** Reads content by descriptor. */
export interface Fetcher {
  /**
   * Opens the content of `descriptor`. The stream is not verified: wrap it with `verified` of
   * `content/verify.ts`. The caller must read it to its end or destroy it.
   * @throws NotFoundError when the source does not hold it.
   */
  fetch(descriptor: Descriptor, options?: FetchOptions): Promise<Readable>
}

/** Writes content by descriptor. */
export interface Pusher {
  /** Whether the target holds the content already. */
  exists(descriptor: Descriptor, options?: ContentOptions): Promise<boolean>
  /**
   * Stores content under its descriptor: verifies size and digest, is atomic (readers see all of it
   * or nothing) and idempotent (content that is there already is success).
   */
  push(descriptor: Descriptor, content: Readable | Uint8Array, options?: ContentOptions): Promise<void>
}

/** Finds the descriptor that a tag or digest names. */
export interface Resolver {
  /** @throws NotFoundError when there is no such tag or digest. */
  resolve(reference: string, options?: ContentOptions): Promise<Descriptor>
}

/** Names content. */
export interface Tagger {
  /** Points `reference` at `descriptor`, whose content must be there; replaces what it pointed at. */
  tag(descriptor: Descriptor, reference: string, options?: ContentOptions): Promise<void>
}

/** All of it: what a registry repository, a layout directory, the store and memory offer. */
export interface ContentStore extends Fetcher, Pusher, Resolver, Tagger {}

/** What {@link ReferrersLister.referrers} takes. */
export interface ReferrersOptions extends ContentOptions {
  /** List only referrers of this type; default all. */
  readonly artifactType?: string | undefined
}

/** Finds what refers to content: signatures, SBOMs, attestations. */
export interface ReferrersLister {
  /**
   * The manifests and indexes whose `subject` is `descriptor`, each once, in no promised order
   * (distribution-spec, "Listing Referrers"). Each descriptor has the `artifactType` (of an image
   * manifest without one, its config's media type) and the annotations of its manifest. None for
   * content that is not there or that nothing refers to.
   */
  referrers(descriptor: Descriptor, options?: ReferrersOptions): AsyncIterable<Descriptor>
}

/** Takes content over from where it is, without its bytes passing through this process. */
export interface Mounter {
  /**
   * Makes the blob `descriptor` of `source` content of this target too, as a registry mounts a blob of
   * another of its repositories. Resolves with false, and has changed nothing, when that can't be
   * done: the source is of another kind or elsewhere, or the other side refuses. The caller then pushes.
   */
  mount(descriptor: Descriptor, source: Fetcher, options?: ContentOptions): Promise<boolean>
}

/** What {@link Receiver.receive} takes. */
export interface ReceiveOptions extends ContentOptions {
  /** Called for each piece that arrives, with its bytes. An error it throws ends the transfer. */
  readonly onBytes?: ((bytes: number) => void) | undefined
  /**
   * Told how many bytes have arrived before; those of `onBytes` come after them. Told again, with 0, when
   * they turn out not to be what they should.
   */
  readonly onResume?: ((bytes: number) => void) | undefined
  /**
   * Told, where content is collected in a file, how many bytes of it are there: not verified yet. Fewer than before
   * when it begins anew. The file has another name when all has come.
   */
  readonly onWritten?: ((path: string, bytes: number) => void) | undefined
}

/** Takes content without losing what has arrived of it when the rest does not. */
export interface Receiver {
  /**
   * Like {@link Pusher.push}, of content that `open` gives from a byte on. What has arrived of it before,
   * perhaps in a process that was killed, is not asked for again; it is checked with the rest.
   */
  receive(descriptor: Descriptor, open: (offset: number) => Promise<Readable>, options?: ReceiveOptions): Promise<void>
}
