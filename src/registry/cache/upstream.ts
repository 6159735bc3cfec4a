import type { ContentOptions, Fetcher, ReferrersLister, Resolver } from '../../content/interfaces.ts'

/** A repository of another registry, as `openRepository` of `oci-ts/distribution` gives it, or any other source. */
export interface Upstream extends Fetcher, Resolver {
  /** Lists what refers to content; without it the cache knows the referrers that came through it. */
  readonly referrers?: ReferrersLister['referrers']

  /** Its tags; without it, only those are listed that were asked for once. */
  tags?(options?: ContentOptions): AsyncIterable<string>
}
