import type { Call, CallOptions } from '../linux/call.ts'
import { AT_FDCWD, chdir, close, dup3, fchdir, O, O_DIRECTORY, openat } from '../linux/calls/files.ts'
import {
  attachMount,
  cloneTree,
  fsconfigCreate,
  fsconfigFlag,
  fsconfigString,
  fsmount,
  fsopen,
  MNT_DETACH,
  MOUNT_ATTR,
  MS,
  mountSetattr,
  pivotRoot,
  umount2,
} from '../linux/calls/mounts.ts'

/**
 * An overlay that the container's first process mounts in its own mount namespace: nothing is mounted
 * on the host, and the kernel unmounts it with the container.
 */
export interface OverlayRootfs {
  /** Directories of the layers, topmost first. Absolute. */
  readonly lower: readonly string[]
  /** Directory that takes the changes, and one beside it that overlayfs works in; none of them: read-only. */
  readonly upper?: string | undefined
  readonly work?: string | undefined
  /** Loses what a crash of the machine interrupts, and is faster for it. Default false. */
  readonly volatile?: boolean | undefined
}

const why: CallOptions = { step: 'prepare the root filesystem', pointer: '/root/path' }

const propagations: Readonly<Record<string, number>> = {
  shared: MS.SHARED,
  slave: MS.SLAVE,
  private: MS.PRIVATE,
  unbindable: MS.UNBINDABLE,
}

/**
 * The calls that make `path` the mount which becomes the container's root, open as descriptor `root`.
 * First of all nothing that is mounted here may reach the host.
 */
export function rootfsCalls(
  path: string,
  root: number,
  overlay: OverlayRootfs | undefined,
  propagation: string | undefined,
  userNamespace: boolean,
): readonly Call[] {
  const { calls, tree } = overlay === undefined ? bindRoot(path) : overlayRoot(overlay, userNamespace)
  const target = openat(AT_FDCWD, path, O.PATH | O_DIRECTORY, 0, why)
  const type = propagations[(propagation ?? 'private').replace(/^r(?!$)/, '')] ?? MS.PRIVATE
  return [
    mountSetattr(AT_FDCWD, '/', { propagation: MS.SLAVE }, true, { ...why, step: 'cut the mounts off from the host' }),
    ...calls,
    target,
    attachMount(tree, target, why),
    close(target),
    mountSetattr(tree, '', { propagation: type }, true, why),
    dup3(tree, root, O.CLOEXEC, why),
    close(tree),
  ]
}

function bindRoot(path: string): { readonly calls: readonly Call[]; readonly tree: Call } {
  const tree = cloneTree(AT_FDCWD, path, true, why)
  return { calls: [tree], tree }
}

function overlayRoot(overlay: OverlayRootfs, userNamespace: boolean): { readonly calls: readonly Call[]; tree: Call } {
  const context = fsopen('overlay', why)
  const set = (key: string, value: string): Call => fsconfigString(context, key, value, why)
  const configured = [set('source', 'overlay'), ...overlay.lower.map((directory) => set('lowerdir+', directory))]
  if (overlay.upper !== undefined) {
    configured.push(set('upperdir', overlay.upper), set('workdir', overlay.work ?? ''))
    if (overlay.volatile === true) configured.push(fsconfigFlag(context, 'volatile', why))
  }
  if (userNamespace) configured.push(fsconfigFlag(context, 'userxattr', why))
  const tree = fsmount(context, 0, why)
  return { calls: [context, ...configured, fsconfigCreate(context, why), tree, close(context)], tree }
}

/** The calls that make the prepared mount the root, and detach the host's (pivot_root(2), "pivot_root(".", ".")"). */
export function pivotCalls(root: number, readonly: boolean): readonly Call[] {
  const step = { step: 'change the root', pointer: '/root' }
  const calls = [fchdir(root, step), pivotRoot('.', '.', step), umount2('.', MNT_DETACH, step), chdir('/', step)]
  if (readonly) {
    const attributes = { set: MOUNT_ATTR.RDONLY }
    calls.push(
      mountSetattr(AT_FDCWD, '/', attributes, false, { step: 'make the root read-only', pointer: '/root/readonly' }),
    )
  }
  return calls
}
