import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { OciError, SyscallError } from '../errors.ts'
import { chainIds } from '../image/chain-id.ts'
import type { Digest } from '../image/digest.ts'
import type { CheckedContent } from './check-content.ts'
import { differences } from './compare-trees.ts'
import type { ContainerFinding, LayerFinding } from './findings.ts'
import { readRecord } from './layer-record.ts'
import type { LayerStep, Layers } from './layers.ts'
import type { Lease } from './lease.ts'
import { listDigests } from './marks.ts'
import { layerPath, type StorePaths } from './paths.ts'
import type { WritableRecord } from './writable-record.ts'

/** What layers are checked with. */
export interface LayersContext {
  readonly paths: StorePaths
  readonly layers: Layers
  readonly lease: Lease
  readonly content: CheckedContent
  readonly containers: readonly WritableRecord[]
  /** Layers that were found good before; those that are found good now are added. */
  readonly verified: Set<Digest>
  readonly signal: AbortSignal | undefined
}

/** What the layers of a store are like. */
export interface CheckedLayers {
  readonly findings: readonly (LayerFinding | ContainerFinding)[]
  readonly count: number
  readonly unverified: readonly Digest[]
}

/**
 * Checks all unpacked layers: their records and, when `full`, each file, by unpacking the blob once more and comparing.
 * With `replace` the one that was unpacked anew takes the place of a damaged one.
 */
export async function checkLayers(
  context: LayersContext,
  { full, replace }: { readonly full: boolean; readonly replace: boolean },
): Promise<CheckedLayers> {
  const { paths, content, containers } = context
  const steps = stepsOf(content)
  const findings: (LayerFinding | ContainerFinding)[] = []
  const unverified: Digest[] = []
  const bad = new Set<Digest>()
  const users = usersOfLayers(containers)
  const tell = (
    kind: LayerFinding['kind'],
    chainId: Digest,
    message: string,
    differing: readonly string[] = [],
  ): void => {
    bad.add(chainId)
    findings.push({
      kind,
      chainId,
      message,
      paths: differing,
      images: [...(content.names.get(chainId) ?? [])],
      containers: users.get(chainId) ?? [],
    })
  }
  // From below: what is above one that is damaged can't be told from it.
  const listed = await listDigests(paths.layers)
  for (const chainId of listed.toSorted((a, b) => depth(steps, a) - depth(steps, b))) {
    const step = steps.get(chainId)
    const record = await readRecord(layerPath(paths, chainId))
    const known = step !== undefined && !step.below.some((below) => bad.has(below) || !listed.includes(below))
    const comparable = known && !content.damaged.has(step.descriptor.digest) ? step : undefined
    if (record === undefined) {
      tell('layer-damaged', chainId, `the record of layer ${chainId} can't be read`)
      if (replace && comparable !== undefined) await renew(context, comparable)
    } else if (record.parent !== undefined && !listed.includes(record.parent) && users.has(chainId)) {
      tell('layer-damaged', chainId, `layer ${chainId} is there without the one below it`)
    } else if (full) {
      const different = comparable === undefined ? undefined : await compare(context, comparable, replace)
      if (different === undefined) unverified.push(chainId)
      else if (different.length > 0) tell('layer-damaged', chainId, damageOf(chainId, different), different)
    }
  }
  for (const [chainId, ids] of users) {
    if (listed.includes(chainId)) continue
    tell('layer-missing', chainId, `layer ${chainId} is missing, and container ${ids.join(', ')} is made of it`)
    const step = steps.get(chainId)
    if (replace && step !== undefined) await renew(context, step)
  }
  for (const { id } of containers) {
    const missing = ['upper', 'work'].filter((name) => !existsSync(join(paths.containers, id, name)))
    if (missing.length === 0 || !existsSync(join(paths.containers, id))) continue
    const message = `the layer of container ${id} has no ${missing.join(' and no ')}`
    findings.push({ kind: 'container-damaged', id, message, images: [], containers: [id] })
  }
  return { findings, count: listed.length, unverified }
}

/** What each layer is unpacked from. */
function stepsOf({ nodes, damaged }: CheckedContent): ReadonlyMap<Digest, LayerStep> {
  const steps = new Map<Digest, LayerStep>()
  for (const { manifest, config } of nodes) {
    if (manifest === undefined || config === undefined) continue
    const { diff_ids: diffIds } = config.rootfs
    if (diffIds.length !== manifest.layers.length) continue
    const chain = chainIds(diffIds)
    manifest.layers.forEach((descriptor, index) => {
      const chainId = chain[index] as Digest
      // Several blobs may hold the same layer.
      const known = steps.get(chainId)
      if (known !== undefined && !damaged.has(known.descriptor.digest)) return
      const below = chain.slice(0, index).reverse()
      steps.set(chainId, { descriptor, diffId: diffIds[index] as Digest, chainId, below })
    })
  }
  return steps
}

function depth(steps: ReadonlyMap<Digest, LayerStep>, chainId: Digest): number {
  return steps.get(chainId)?.below.length ?? 0
}

/** Ids of the containers that each layer is part of. */
export function usersOfLayers(containers: readonly WritableRecord[]): ReadonlyMap<Digest, readonly string[]> {
  const users = new Map<Digest, string[]>()
  for (const { id, layers = [] } of containers) {
    for (const chainId of layers) users.set(chainId, [...(users.get(chainId) ?? []), id])
  }
  return users
}

/** Where a layer differs from its blob; undefined when that can't be found out. */
async function compare(
  { layers, lease, verified, signal }: LayersContext,
  step: LayerStep,
  replace: boolean,
): Promise<readonly string[] | undefined> {
  if (verified.has(step.chainId)) return []
  await lease.add(step.chainId, step.descriptor.digest)
  let different: readonly string[] = []
  try {
    await layers.compare(
      step,
      async (anew, there) => {
        different = existsSync(there) ? await differences(anew, there, signal) : ['/']
        return replace && different.length > 0 ? 'replace' : 'keep'
      },
      signal,
    )
    // From now on it is known to be good, whatever became of the machine since it was unpacked.
    if (replace) await layers.sync([step.chainId])
    if (replace || different.length === 0) verified.add(step.chainId)
    return different
  } catch (error) {
    signal?.throwIfAborted()
    // The blob is not there any more, or could never be unpacked. A full disk is another matter.
    if (error instanceof OciError && !(error instanceof SyscallError)) return undefined
    throw error
  }
}

async function renew({ layers, lease, signal }: LayersContext, step: LayerStep): Promise<void> {
  await lease.add(step.chainId, step.descriptor.digest)
  try {
    await layers.compare(step, async () => 'replace', signal)
  } catch (error) {
    signal?.throwIfAborted()
    if (!(error instanceof OciError) || error instanceof SyscallError) throw error
  }
}

function damageOf(chainId: Digest, different: readonly string[]): string {
  const [first = '', ...others] = different
  const more = others.length === 0 ? '' : ` and ${others.length}${others.length >= 9 ? ' or more' : ''} others`
  return `layer ${chainId} is not what its blob says: ${first}${more} differ${others.length === 0 ? 's' : ''}`
}
