import { closeSync } from 'node:fs'
import { mapOwners } from '../layer/mapped-layers.ts'
import type { CallOptions } from '../linux/call.ts'
import { AT_FDCWD } from '../linux/calls/files.ts'
import { cloneTree, MS, mountSetattr } from '../linux/calls/mounts.ts'
import { CLONE, pidfdGetfd, pidfdOpen, unshare } from '../linux/calls/processes.ts'
import { perform } from '../linux/local.ts'
import { Remote } from '../linux/remote/remote.ts'
import { makeUserNamespace } from '../linux/user-namespace.ts'
import type { OverlayRootfs } from '../runtime/overlay.ts'
import type { WritableLayer } from '../store/index.ts'
import { type ContainerIds, noDevices, viewOf } from './container-root.ts'

const why: CallOptions = { step: 'prepare the root for the ids of the user namespace' }
/** Where the process that mounts has the user namespace. */
const userNamespace = 10

/**
 * A mount of `overlay`, attached nowhere, in which files of the layers have the owners that the container's ids stand for on
 * the host; what the container has changed has them already. Devices that an image brings are none: in a user namespace nobody
 * has any but those that were bound.
 * @returns its descriptor.
 */
export async function mappedRoot(
  { lower, upper }: WritableLayer,
  ids: ContainerIds,
  overlay: OverlayRootfs,
): Promise<number> {
  if (lower.length === 0) return clonedWithoutDevices(upper)
  const namespace = await makeUserNamespace(ids, why.step as string)
  try {
    await using process = Remote.spawn({ descriptors: new Map([[userNamespace, namespace]]), dumpable: true })
    const view = viewOf(overlay, false)
    const tree = cloneTree(view.root, '', false, why)
    const calls = [
      unshare(CLONE.NEWNS, why),
      mountSetattr(AT_FDCWD, '/', { propagation: MS.SLAVE }, true, why),
      ...mapOwners(lower, userNamespace, why),
      ...view.calls,
      ...(view.isAttached ? [tree] : []),
      mountSetattr(view.isAttached ? tree : view.root, '', noDevices, false, why),
    ]
    const results = await process.run(calls)
    const pidfd = perform(pidfdOpen(process.pid, why))
    try {
      return perform(pidfdGetfd(pidfd, results.value(view.isAttached ? tree : view.root), why))
    } finally {
      closeSync(pidfd)
    }
  } finally {
    closeSync(namespace)
  }
}

function clonedWithoutDevices(path: string): number {
  const tree = perform(cloneTree(AT_FDCWD, path, false, why))
  try {
    perform(mountSetattr(tree, '', noDevices, false, why))
    return tree
  } catch (error) {
    closeSync(tree)
    throw error
  }
}
