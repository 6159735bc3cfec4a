import type { Call, CallOptions } from '../linux/call.ts'
import { AT_FDCWD, close } from '../linux/calls/files.ts'
import { attachMountAt, cloneTree, MOUNT_ATTR, mountSetattr } from '../linux/calls/mounts.ts'

/**
 * Calls that mount each of the directories on itself with its owners mapped by a user namespace: for a process in a mount
 * namespace of its own. Overlayfs takes such layers since Linux 5.19, and only where they are attached (before 6.15).
 */
export function mapOwners(directories: readonly string[], userNamespace: number, why: CallOptions): readonly Call[] {
  return directories.flatMap((directory) => {
    const tree = cloneTree(AT_FDCWD, directory, false, why)
    const mapped = mountSetattr(tree, '', { set: MOUNT_ATTR.IDMAP, userNamespace }, false, why)
    return [tree, { ...mapped, path: directory }, attachMountAt(tree, directory, why), close(tree)]
  })
}
