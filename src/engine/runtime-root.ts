import { closeSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Spec } from '../bundle/spec.ts'
import type { CreateOptions } from '../runtime/index.ts'
import type { WritableLayer } from '../store/index.ts'
import type { ContainerIds } from './container-root.ts'
import { idsOf } from './spec.ts'

/** What a container's root is made of. */
export type RuntimeRoot = Pick<CreateOptions, 'bundle' | 'overlay' | 'rootTree'>

/** Makes a container with a root of that layer. `volatile`: whether what is written is lost anyway when the machine goes down. */
export async function withRoot<T>(
  layer: WritableLayer,
  spec: Spec,
  volatile: boolean,
  make: (root: RuntimeRoot) => Promise<T>,
): Promise<T> {
  // Hooks start there: above the container's files, so that they find nothing of its.
  const bundle = dirname(layer.upper)
  const ids = mappedIds(spec)
  if (ids === undefined) {
    return make({ bundle, overlay: layer.lower.length === 0 ? undefined : { ...layer, volatile } })
  }
  const { mappedRoot } = await import('./mapped-root.ts')
  const rootTree = await mappedRoot(layer, ids, { ...layer, volatile })
  try {
    return await make({ bundle, rootTree })
  } finally {
    closeSync(rootTree)
  }
}

/**
 * The ids of the user namespace of a container of root's. Layers have the ids that it sees, and the way to them is closed to
 * others, so that root makes its root for it.
 */
export function mappedIds(spec: Spec): ContainerIds | undefined {
  return process.geteuid?.() === 0 ? idsOf(spec) : undefined
}
