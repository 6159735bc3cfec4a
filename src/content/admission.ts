import { AdmissionError, UnsupportedError } from '../errors.ts'
import type { Descriptor } from '../image/descriptor.ts'
import type { CopyRoot, DocumentReader } from './copy-graph.ts'
import type { Fetcher, ReferrersLister, Resolver } from './interfaces.ts'
import { documentLimits } from './limits.ts'
import { readAll } from './verify.ts'

/**
 * What is about to be copied, for a policy to decide on. All content that is read here is verified; what is
 * decided on is what is copied, because both are named by digest.
 */
export interface CopyCandidate {
  /** As it was asked for: a tag or digest of the source. */
  readonly reference: string
  /** What the reference names: where one image of an index is copied, the index. Signatures are mostly of this. */
  readonly named: Descriptor
  /** What is copied: an image, or an index with its images. */
  readonly root: Descriptor
  /** Content of `root`. */
  readonly raw: Uint8Array
  /** Aborts with the copy. */
  readonly signal: AbortSignal
  /**
   * Reads other content of the source: a config, a signature.
   * @param limit Bytes at most; default 4 MiB. @throws LimitError for more; NotFoundError; DigestMismatchError
   */
  read(descriptor: Descriptor, limit?: number): Promise<Uint8Array>
  /** Finds what another tag or digest of the source names. @throws NotFoundError */
  resolve(reference: string): Promise<Descriptor>
  /**
   * What refers to content, such as signatures and SBOMs, of one type or all.
   * @throws UnsupportedError when the source can't list it.
   */
  referrers(subject: Descriptor, artifactType?: string): AsyncIterable<Descriptor>
}

/** Decides whether content is copied. What it throws refuses it. */
export type Admission = (candidate: CopyCandidate) => void | Promise<void>

/** Asks a policy. @throws AdmissionError with what the policy has thrown as its cause; `signal.reason` */
export async function ask(
  admit: Admission,
  source: Fetcher & Resolver & Partial<ReferrersLister>,
  what: {
    readonly reference: string
    readonly named: Descriptor
    readonly chosen: CopyRoot
    readonly read: DocumentReader
  },
  signal: AbortSignal,
): Promise<void> {
  const { reference, named, chosen } = what
  const { root } = chosen
  const candidate: CopyCandidate = {
    reference,
    named,
    root,
    raw: chosen.raw ?? (await what.read(root, documentLimits.manifest)),
    signal,
    read: (descriptor, limit = documentLimits.manifest) => readAll(source, descriptor, limit, { signal }),
    resolve: (other) => source.resolve(other, { signal }),
    referrers(subject, artifactType) {
      if (source.referrers !== undefined) return source.referrers(subject, { artifactType, signal })
      throw new UnsupportedError('listing referrers', 'the source can not list them')
    },
  }
  try {
    await admit(candidate)
  } catch (error) {
    signal.throwIfAborted()
    throw error instanceof AdmissionError ? error : new AdmissionError(reference, root.digest, { cause: error })
  }
  signal.throwIfAborted()
}
