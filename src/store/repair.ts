import { randomUUID } from 'node:crypto'
import { mkdir, rename } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Fetcher } from '../content/interfaces.ts'
import { OciError } from '../errors.ts'
import type { Digest } from '../image/digest.ts'
import { isIndexType, isManifestType } from '../image/media-type.ts'
import { fileError, hasCode } from '../internal/file-error.ts'
import { type CheckContext, type Survey, survey } from './check.ts'
import { BlobVerifier } from './check-content.ts'
import type { BlobFinding, Finding } from './findings.ts'
import { describe, listDigests } from './marks.ts'
import { WorkDirectory } from './work-directory.ts'

/** How a store is repaired. */
export interface RepairOptions {
  /** Where blobs are fetched again: one place for all, or one for each image, by its name. Default: nowhere. */
  readonly from?: Fetcher | ((image: string) => Fetcher | undefined) | undefined
  /** See {@link CheckOptions.level}. Default `full`. */
  readonly level?: 'full' | 'quick' | undefined
  readonly signal?: AbortSignal | undefined
}

/** What became of a finding. */
export interface Repair {
  readonly finding: Finding
  readonly repaired: boolean
  /** Why it could not be repaired. */
  readonly error: unknown
}

/** What a repair has done. */
export interface RepairReport {
  /** One for each finding; none for a store in order. */
  readonly repairs: readonly Repair[]
}

/** Rounds at most: what is repaired may show what else is missing, such as the parts of a manifest. */
const maxRounds = 8

/** Puts a store in order, as far as that can be done. */
export async function repair(context: CheckContext, options: RepairOptions): Promise<RepairReport> {
  const full = options.level !== 'quick'
  const verifier = new BlobVerifier(context.content, full, options.signal)
  const verified = new Set<Digest>()
  const repairs = new Map<string, Repair>()
  let before = ''
  for (let round = 0; round < maxRounds; round += 1) {
    const found = await survey(context, verifier, { full, replace: true, verified, signal: options.signal })
    const open = new Map(found.report.findings.map((finding) => [keyOf(finding), finding]))
    for (const [key, repair] of repairs) repairs.set(key, { ...repair, repaired: !open.has(key) })
    const now = [...open.keys()].sort().join()
    if (open.size === 0 || now === before) break
    before = now
    for (const [key, finding] of open) {
      const known = repairs.get(key)
      // What could not be fetched a moment ago can't be fetched now; layers are replaced by the survey.
      const error = known === undefined ? await mend(context, found, finding, options) : known.error
      repairs.set(key, { finding, repaired: false, error })
    }
  }
  return {
    repairs: [...repairs.values()].map((repair) => (repair.repaired ? { ...repair, error: undefined } : repair)),
  }
}

/** Which finding it is, from one round to the next. */
function keyOf(finding: Finding): string {
  const subject =
    'digest' in finding ? finding.digest : 'chainId' in finding ? finding.chainId : 'id' in finding ? finding.id : ''
  return `${finding.kind} ${subject}`
}

/** @returns why it could not be done; undefined when that shows in the next round. */
async function mend(context: CheckContext, found: Survey, finding: Finding, options: RepairOptions): Promise<unknown> {
  try {
    switch (finding.kind) {
      case 'index-damaged':
        return await rebuildIndex(context, found)
      case 'blob-damaged':
      case 'blob-missing':
        return await mendBlob(context, finding, options)
      case 'container-damaged':
        return await makeDirectories(join(context.paths.containers, finding.id))
      default:
        return undefined
    }
  } catch (error) {
    options.signal?.throwIfAborted()
    return error
  }
}

/** Lists all that no other manifest leads to. Names are lost. */
async function rebuildIndex({ content }: CheckContext, { content: { nodes, damaged } }: Survey): Promise<void> {
  const parts = new Set(nodes.flatMap(({ children }) => children.map(({ digest }) => digest)))
  const roots = []
  for (const digest of await listDigests(join(content.path, 'blobs'))) {
    const descriptor = damaged.has(digest) || parts.has(digest) ? undefined : await describe(content, digest)
    if (descriptor === undefined) continue
    if (isManifestType(descriptor.mediaType) || isIndexType(descriptor.mediaType)) roots.push(descriptor)
  }
  await content.rebuildIndex(roots)
}

async function mendBlob(
  context: CheckContext,
  finding: BlobFinding,
  { from, signal }: RepairOptions,
): Promise<unknown> {
  const { paths, content } = context
  const { digest, descriptor } = finding
  const path = content.blobPath(digest)
  const aside = await WorkDirectory.claim(paths.temporary, `damaged-${randomUUID()}`, signal)
  try {
    const taken = await aside.take(path)
    // Nobody needs it: it is in the way of who will.
    if (descriptor === undefined) return undefined
    try {
      await fetchAgain(context, { ...finding, descriptor }, from, signal)
    } catch (error) {
      if (taken !== undefined) await putBack(taken, path)
      throw error
    }
    return undefined
  } finally {
    await aside.release()
  }
}

async function fetchAgain(
  { content, lease }: CheckContext,
  { descriptor, images }: BlobFinding & { readonly descriptor: NonNullable<BlobFinding['descriptor']> },
  from: RepairOptions['from'],
  signal: AbortSignal | undefined,
): Promise<void> {
  await lease.add(descriptor.digest)
  const sources = typeof from === 'function' ? images.map((image) => from(image)) : [from]
  let failure: unknown = new OciError('ERR_OCI_NOT_FOUND', `there is nowhere to fetch ${descriptor.digest} from`, {
    subject: descriptor.digest,
    hint: images.length === 0 ? 'Pull an image that has it.' : `Pull ${images[0]} again, or repair with a source.`,
  })
  for (const source of sources) {
    if (source === undefined) continue
    try {
      await content.push(descriptor, await source.fetch(descriptor, { signal }), { signal })
      return
    } catch (error) {
      signal?.throwIfAborted()
      failure = error
    }
  }
  throw failure
}

/** A damaged blob tells more than none: it may be a document that a tool can still read. */
async function putBack(taken: string, path: string): Promise<void> {
  try {
    await rename(taken, path)
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw fileError(error, 'putting a blob back', path)
    await mkdir(dirname(path), { recursive: true })
    await rename(taken, path)
  }
}

async function makeDirectories(container: string): Promise<undefined> {
  for (const name of ['upper', 'work']) await mkdir(join(container, name), { recursive: true, mode: 0o755 })
}
