import type { UserNamespace } from '../bundle/options.ts'
import { SyscallError } from '../errors.ts'
import { TreeReader } from '../layer/diff/tree-reader.ts'
import { AT_FDCWD, chroot, fchdir, O, O_DIRECTORY, openat, openat2, RESOLVE } from '../linux/calls/files.ts'
import { MS, mountSetattr } from '../linux/calls/mounts.ts'
import { CLONE, PR, prctl, unshare } from '../linux/calls/processes.ts'
import { writeIdMaps } from '../linux/id-maps.ts'
import { Remote } from '../linux/remote/remote.ts'
import { copyTree, type OwnerMap } from '../store/copy-tree.ts'
import { viewOf } from './container-root.ts'

const why = { step: 'look at the image for what a volume starts with' }

/** What is copied from where. */
export interface CopyUp {
  /** Directories of the image's layers, topmost first. */
  readonly lower: readonly string[]
  /** Absolute path in the image. */
  readonly path: string
  /** Absolute path of an empty directory. */
  readonly directory: string
  /** The ids that the container sees; undefined for root, who sees them as they are. */
  readonly userNamespace: UserNamespace | undefined
  /** Whose the copies are. Default: the owners of what is copied. */
  readonly owners?: OwnerMap | undefined
}

/**
 * Copies what an image has at a path into a directory, with owners and all other attributes. A process of its own
 * does it, which sees the layers stacked by the kernel, in a mount namespace that nobody else sees. Symlinks on the
 * way lead nowhere out of the image (CVE-2022-23648); in what is copied they are copied.
 * Where the image has no directory, nothing is done.
 */
export async function copyUp(
  { lower, path, directory, userNamespace, owners }: CopyUp,
  signal: AbortSignal,
): Promise<void> {
  if (lower.length === 0) return
  const mapped = userNamespace !== undefined
  // The id maps are written by way of /proc, which must show the process.
  const remote = Remote.spawn({ dumpable: mapped })
  try {
    await remote.run([unshare(CLONE.NEWNS | (mapped ? CLONE.NEWUSER : 0), why)])
    if (mapped) await writeIdMaps(remote.pid, userNamespace)
    const target = openat(AT_FDCWD, directory, O.RDONLY | O_DIRECTORY, 0, why)
    const view = viewOf({ lower }, mapped)
    const opened = await remote.run([
      prctl(PR.SET_DUMPABLE, 0, 0, why),
      mountSetattr(AT_FDCWD, '/', { propagation: MS.SLAVE }, true, why),
      target,
      ...view.calls,
    ])
    const source = await openInView(remote, opened.value(view.root), path)
    if (source === undefined) return
    await remote.run([fchdir(source, why), chroot('.', why)])
    await copyTree(await TreeReader.open(remote), opened.value(target), { owners, signal })
  } finally {
    await remote.close()
  }
}

async function openInView(remote: Remote, root: number, path: string): Promise<number | undefined> {
  const resolve = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS
  const source = openat2(root, path, { flags: O.RDONLY | O_DIRECTORY, resolve }, why)
  try {
    return (await remote.run([source])).value(source)
  } catch (error) {
    if (error instanceof SyscallError && ['ENOENT', 'ENOTDIR', 'ELOOP'].includes(error.errnoName)) return undefined
    throw error
  }
}
