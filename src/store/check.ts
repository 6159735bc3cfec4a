import { join } from 'node:path'
import type { LayoutStore, NamedDescriptor } from '../content/layout.ts'
import { OciError } from '../errors.ts'
import type { Digest } from '../image/digest.ts'
import { BlobVerifier, type CheckedContent, checkContent } from './check-content.ts'
import { checkLayers } from './check-layers.ts'
import type { CheckReport, Finding, IndexFinding } from './findings.ts'
import type { Layers } from './layers.ts'
import type { Lease } from './lease.ts'
import type { StorePaths } from './paths.ts'
import { type WritableRecord, writableRecords } from './writable-record.ts'

/** How a store is checked. */
export interface CheckOptions {
  /**
   * `full` (default) reads every blob, and unpacks every layer once more to compare each file. `quick` reads the documents
   * only, and looks whether everything is there.
   */
  readonly level?: 'full' | 'quick' | undefined
  readonly signal?: AbortSignal | undefined
}

/** What is checked. */
export interface CheckContext {
  readonly paths: StorePaths
  readonly content: LayoutStore
  readonly layers: Layers
  /** Keeps what is looked at. */
  readonly lease: Lease
}

/** Looks at a store without changing it. */
export async function check(context: CheckContext, options: CheckOptions): Promise<CheckReport> {
  const full = options.level !== 'quick'
  const verifier = new BlobVerifier(context.content, full, options.signal)
  return (await survey(context, verifier, { ...options, full, replace: false, verified: new Set() })).report
}

/** How {@link survey} goes about it. */
export interface SurveyOptions {
  readonly full: boolean
  /** Whether damaged layers are replaced on the way. */
  readonly replace: boolean
  /** Layers that were found good before, and are not looked at again; those that are found good now are added. */
  readonly verified: Set<Digest>
  readonly signal?: AbortSignal | undefined
}

/** Everything that a check learns. */
export interface Survey {
  readonly report: CheckReport
  readonly content: CheckedContent
}

/** Looks at all of a store once. */
export async function survey(
  { paths, content, layers, lease }: CheckContext,
  verifier: BlobVerifier,
  { full, replace, verified, signal }: SurveyOptions,
): Promise<Survey> {
  const containers = await writableRecords(paths.containers)
  const { entries, damage } = await readIndex(content)
  const checked = await checkContent(content, verifier, entries, containers)
  const context = { paths, layers, lease, content: checked, containers, verified, signal }
  const unpacked = await checkLayers(context, { full, replace })
  const users = usersOfImages(containers)
  const findings: readonly Finding[] = [
    ...damage,
    ...checked.findings.map((finding) => ({ ...finding, containers: users.get(finding.digest) ?? [] })),
    ...unpacked.findings,
  ]
  const { count, unverified } = unpacked
  return { report: { findings, blobs: checked.blobs, layers: { count, unverified } }, content: checked }
}

interface IndexState {
  readonly entries: readonly NamedDescriptor[]
  readonly damage: readonly IndexFinding[]
}

async function readIndex(content: LayoutStore): Promise<IndexState> {
  try {
    return { entries: await content.list(), damage: [] }
  } catch (error) {
    if (!(error instanceof OciError)) throw error
    const path = join(content.path, 'index.json')
    const message = `the names of all images can't be read: ${error.message}`
    return { entries: [], damage: [{ kind: 'index-damaged', path, message, images: [], containers: [] }] }
  }
}

function usersOfImages(containers: readonly WritableRecord[]): ReadonlyMap<string, readonly string[]> {
  const users = new Map<string, string[]>()
  for (const { id, image } of containers) if (image !== undefined) users.set(image, [...(users.get(image) ?? []), id])
  return users
}
