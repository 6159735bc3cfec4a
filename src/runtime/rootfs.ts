import type { Call, CallOptions } from '../linux/call.ts'
import { AT_FDCWD, chdir, chroot, close, dup3, type Fd, fchdir, O, O_DIRECTORY, openat } from '../linux/calls/files.ts'
import {
  attachMount,
  cloneTree,
  MNT_DETACH,
  MOUNT_ATTR,
  MS,
  mount,
  mountSetattr,
  pivotRoot,
  umount2,
} from '../linux/calls/mounts.ts'
import type { Host } from './host.ts'
import { mountOverlay, type OverlayRootfs, overlayTree } from './overlay.ts'

const why: CallOptions = { step: 'prepare the root filesystem', pointer: '/root/path' }

/** What becomes the container's root, and how. */
export interface RootOptions {
  /** Directory that the root is mounted on, or that is the root. */
  readonly path: string
  /** Number that the descriptor of the root gets. */
  readonly descriptor: number
  readonly overlay: OverlayRootfs | undefined
  /** Descriptor of the mount that becomes the root, when it is there already. */
  readonly tree?: number | undefined
  /** `linux.rootfsPropagation`. */
  readonly propagation: string | undefined
  readonly userNamespace: boolean
  /** Whether it is made in a mount namespace of its own or on the host; undefined when the directory itself is the root. */
  readonly mounting: 'own' | 'host' | undefined
  readonly host: Pick<Host, 'kernel'>
}

/**
 * The calls that make the mount which becomes the container's root, and open it. First of all nothing
 * that is mounted in a mount namespace of its own may reach the host.
 */
export function rootfsCalls(options: RootOptions): readonly Call[] {
  const { descriptor, overlay, tree, host } = options
  // The way to the path may be closed to the ids of a user namespace, and any place does.
  const path = tree === undefined ? options.path : '/'
  if (options.mounting === undefined) {
    const opened = openat(AT_FDCWD, path, O.PATH | O_DIRECTORY, 0, why)
    return [opened, dup3(opened, descriptor, O.CLOEXEC, why), close(opened)]
  }
  // What is shared would pass on the container's mounts, and pivot_root(2) refuses it: that comes later.
  const type = /^r?slave$/.test(options.propagation ?? '') ? MS.SLAVE : MS.PRIVATE
  const detached = tree === undefined ? rootTree(options, host) : { calls: [], tree }
  const cut = { ...why, step: 'cut the mounts off from the host' }
  const calls: Call[] =
    options.mounting === 'own' ? [mountSetattr(AT_FDCWD, '/', { propagation: MS.SLAVE }, true, cut)] : []
  let root: Fd
  if (detached === undefined) {
    calls.push(...mountOverlay(overlay as OverlayRootfs, path, options.userNamespace, why))
    root = openat(AT_FDCWD, path, O.PATH | O_DIRECTORY, 0, why)
    calls.push(root)
  } else {
    root = detached.tree
    const target = openat(AT_FDCWD, path, O.PATH | O_DIRECTORY, 0, why)
    calls.push(...detached.calls, target, attachMount(root, target, why), close(target))
  }
  calls.push(mountSetattr(root, '', { propagation: type }, true, why))
  return [...calls, dup3(root, descriptor, O.CLOEXEC, why), close(root)]
}

function rootTree(
  { path, overlay, userNamespace }: RootOptions,
  host: RootOptions['host'],
): ReturnType<typeof overlayTree> {
  return overlay === undefined ? bindRoot(path) : overlayTree(overlay, userNamespace, host, why)
}

function bindRoot(path: string): { readonly calls: readonly Call[]; readonly tree: Call } {
  const tree = cloneTree(AT_FDCWD, path, true, why)
  return { calls: [tree], tree }
}

/** How the prepared root becomes the root: by pivot_root(2), by moving it over the old one, or for want of mounts by chroot(2). */
export type RootChange = 'pivot' | 'move' | 'chroot'

/** What the new root is to be like. */
export interface NewRoot {
  readonly readonly: boolean
  /** `linux.rootfsPropagation`. */
  readonly propagation: string | undefined
}

/** The calls that make the prepared root the root, and let go of the host's. */
export function rootChangeCalls(root: number, how: RootChange, { readonly, propagation }: NewRoot): readonly Call[] {
  const step = { step: 'change the root', pointer: '/root' }
  const calls: Call[] = [fchdir(root, step)]
  // Stacked on each other, so that the old one needs no directory in the new one (pivot_root(2)).
  if (how === 'pivot') calls.push(pivotRoot('.', '.', step), umount2('.', MNT_DETACH, step))
  if (how === 'move') {
    // The root stays below; what shows all of the host must not be found there by one who gets out of a chroot.
    const hidden = ['/proc', '/sys'].map((path) => umount2(path, MNT_DETACH, { ...step, tolerate: 'any' }))
    calls.push(...hidden, mount('.', '/', 0, MS.MOVE, 0, step))
  }
  if (how !== 'pivot') calls.push(chroot('.', step))
  calls.push(chdir('/', step), ...propagationCalls(propagation))
  if (readonly) {
    const attributes = { set: MOUNT_ATTR.RDONLY }
    calls.push(
      mountSetattr(AT_FDCWD, '/', attributes, false, { step: 'make the root read-only', pointer: '/root/readonly' }),
    )
  }
  return calls
}

const late: Readonly<Record<string, number>> = { shared: MS.SHARED, unbindable: MS.UNBINDABLE }

/** The propagation that a root can only have when it is the root. */
function propagationCalls(propagation = ''): readonly Call[] {
  const type = late[propagation.replace(/^r/, '')]
  if (type === undefined) return []
  const step = { step: 'set the propagation of the root', pointer: '/linux/rootfsPropagation' }
  return [mountSetattr(AT_FDCWD, '/', { propagation: type }, propagation.startsWith('r'), step)]
}
