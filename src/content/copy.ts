import { InvalidArgumentError } from '../errors.ts'
import type { Descriptor } from '../image/descriptor.ts'
import { isDigest } from '../image/digest.ts'
import type { Platform } from '../image/platform.ts'
import { type Admission, ask } from './admission.ts'
import { CopyGraph, type CopyRoot, type DocumentReader } from './copy-graph.ts'
import type { CopyProgress, ProgressListener } from './copy-progress.ts'
import type {
  ContentOptions,
  Fetcher,
  Mounter,
  Pusher,
  Receiver,
  ReferrersLister,
  Resolver,
  Tagger,
} from './interfaces.ts'
import { Operation } from './operation.ts'
import { selectPlatform } from './select-platform.ts'
import { selectPlatforms } from './select-platforms.ts'

export type { Admission, CopyCandidate } from './admission.ts'
export { type CopyFailure, copyFailure } from './copy-failure.ts'
export type { CopyProgress, CopyTotals } from './copy-progress.ts'

/** Options of {@link copy}. */
export interface CopyOptions extends ContentOptions {
  /**
   * Which image of an index to copy; it is then the root: the index itself is not copied. `'all'`
   * copies what the reference names, an index with every image of it. Default `'all'`.
   */
  readonly platform?: Platform | 'all' | undefined
  /**
   * Instead of `platform`: which images of an index to copy. The root is then a new index, with
   * another digest, that has their entries only, as they are and in their order, with the attestations
   * of each; the same choice makes the same index. When it would hold all there is, it is the index
   * that was named. An index inside the index is copied whole.
   */
  readonly platforms?: readonly Platform[] | undefined
  /**
   * Whether to copy what refers to the images and the index as well, and what refers to that, such as
   * signatures and SBOMs: all of it, or only what has this artifact type. Default false. The source
   * must be able to list them. Of an index that is new (see `platforms`) there are none.
   */
  readonly referrers?: boolean | { readonly artifactType: string } | undefined
  /**
   * Transfers at the same time, 1 to 64; default 3, as other clients have it. As many small requests
   * (manifests, questions) may be under way beside them, so that these never wait for large blobs.
   */
  readonly concurrency?: number | undefined
  /** Name at the target. Default: the reference, unless it is a digest; then none is given. */
  readonly as?: string | undefined
  /**
   * Asked, before anything is written to the target, whether what is going to be copied may be. When
   * it throws or rejects, the copy does with AdmissionError.
   */
  readonly admit?: Admission | undefined
  /**
   * Told of each manifest and index that is going to be copied, with its verified content, before what it names is. An
   * error it throws ends the copy.
   */
  readonly onManifest?: ((descriptor: Descriptor, raw: Uint8Array) => void) | undefined
  /** Told of every step. An error it throws ends the copy. */
  readonly onProgress?: ((progress: CopyProgress) => void) | undefined
}

/** A copy under way: await it for the descriptor of what was copied, iterate it for progress. */
export type CopyOperation = Operation<Descriptor, CopyProgress>

/** Where content can be copied to. */
export type CopyTarget = Pusher & Partial<Tagger & Mounter & Receiver>

/**
 * Copies what `reference` names, and everything it refers to, from `source` to `target`; then tags it
 * there. Pull, push, save, load and mirroring are this. Await it for the descriptor of what was copied,
 * iterate it for progress, or both.
 *
 * Every byte is checked against its descriptor while it streams. Content goes before the manifests
 * that name it, so that whoever finds a manifest at the target finds all of it; for the same reason
 * whatever the target has already is taken to be complete there. Foreign layers are left out. Each
 * digest is transferred once; what the target can take over from the source by itself (a blob of
 * another repository of the same registry) is not transferred at all. The first failure ends all other
 * transfers; the promise settles when they have ended, with nothing left running. Content that had
 * arrived whole stays at the target, which may also keep what it has of the rest (a layout does).
 *
 * @throws NotFoundError when the reference does not exist; AdmissionError when `admit` refuses it; PlatformError when it has no image for the
 * platform; SizeMismatchError, DigestMismatchError, SpecError, LimitError for content that is not what
 * it should be; whatever the two sides throw ({@link copyFailure} tells which side it was);
 * `signal.reason` when aborted.
 */
export function copy(
  source: Fetcher & Resolver & Partial<ReferrersLister>,
  reference: string,
  target: CopyTarget,
  options: CopyOptions = {},
): CopyOperation {
  return new Operation(async (report) => {
    const { onProgress } = options
    const both = (progress: CopyProgress): void => {
      onProgress?.(progress)
      report(progress)
    }
    const listener = Object.assign(both, { wanted: () => onProgress !== undefined || report.wanted() })
    return copyNow(source, reference, target, options, listener)
  })
}

async function copyNow(
  source: Fetcher & Resolver & Partial<ReferrersLister>,
  reference: string,
  target: CopyTarget,
  options: CopyOptions,
  onProgress: ProgressListener,
): Promise<Descriptor> {
  const { concurrency = 3, signal, as, onManifest, admit } = options
  if (!Number.isInteger(concurrency) || concurrency < 1 || concurrency > 64) {
    throw new InvalidArgumentError(`concurrency must be 1 to 64, not ${concurrency}`, { subject: 'concurrency' })
  }
  if (as !== undefined && target.tag === undefined) {
    throw new InvalidArgumentError('the target can not name content', { subject: 'as' })
  }
  if (options.platforms !== undefined && (options.platform !== undefined || options.platforms.length === 0)) {
    throw new InvalidArgumentError('platforms must name at least one, and platform must not be given', {
      subject: 'platforms',
    })
  }
  const referrers = referrersOf(source, options)
  signal?.throwIfAborted()
  const named = await source.resolve(reference, { signal })
  const graph = new CopyGraph(source, target, { concurrency, signal, onProgress, onManifest, referrers })
  const root = await graph.copy(async (read, aborted) => {
    const chosen = await choose(read, reference, named, options)
    if (admit !== undefined) await ask(admit, source, { reference, named, chosen, read }, aborted)
    return chosen
  })
  const name = as ?? (isDigest(reference) ? undefined : reference)
  if (name !== undefined) await target.tag?.(root, name, { signal })
  return root
}

async function choose(
  read: DocumentReader,
  reference: string,
  named: Descriptor,
  { platform = 'all', platforms }: CopyOptions,
): Promise<CopyRoot> {
  if (platforms !== undefined) return selectPlatforms(read, reference, named, platforms)
  return { root: platform === 'all' ? named : await selectPlatform(read, reference, named, platform) }
}

function referrersOf(
  source: Partial<ReferrersLister>,
  { referrers = false }: CopyOptions,
): { readonly lister: ReferrersLister; readonly artifactType: string | undefined } | undefined {
  if (referrers === false) return undefined
  if (source.referrers === undefined) {
    throw new InvalidArgumentError('the source can not list referrers', { subject: 'referrers' })
  }
  return {
    lister: source as ReferrersLister,
    artifactType: typeof referrers === 'object' ? referrers.artifactType : undefined,
  }
}
