import { closeSync, constants, openSync, readlinkSync, realpathSync } from 'node:fs'
import { UnsupportedError } from '../errors.ts'
import { MNT_DETACH, UMOUNT_NOFOLLOW, umount2 } from '../linux/calls/mounts.ts'
import { perform } from '../linux/local.ts'
import { mountIdOf } from './mount-info.ts'

/**
 * The mount of the host that is the root of a container without a mount namespace, and carries all its other mounts:
 * they go with it when the container is deleted.
 */
export interface RootMount {
  /** Where it is, by no symlink. */
  readonly path: string
  /** The mount namespace that it is in, and the mount that it covers: what is no deeper there is not the container's. */
  readonly namespace: string
  readonly below: string
}

/**
 * Where the root of a container is going to be mounted.
 * @throws UnsupportedError for the root of the host itself.
 */
export function planRootMount(rootfs: string): RootMount {
  const path = realpathSync(rootfs)
  if (path === '/') {
    throw new UnsupportedError('/mounts', "without a mount namespace they would be in the host's own root", {
      hint: 'Give the container a mount namespace, or leave out its mounts.',
    })
  }
  return { path, namespace: mountNamespace(), below: mountAt(path) }
}

/** Takes the root away with all that is mounted below it. Nothing happens when it is not there, or not any more. */
export function removeRootMount(mount: RootMount | undefined): void {
  if (mount === undefined || mount.namespace !== mountNamespace() || !isMounted(mount)) return
  perform(umount2(mount.path, MNT_DETACH | UMOUNT_NOFOLLOW, { step: "unmount the container's root" }))
}

function isMounted({ path, below }: RootMount): boolean {
  try {
    return mountAt(path) !== below
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw cause
  }
}

function mountNamespace(): string {
  return readlinkSync('/proc/self/ns/mnt')
}

function mountAt(path: string): string {
  const fd = openSync(path, constants.O_DIRECTORY | constants.O_NOFOLLOW)
  try {
    return mountIdOf('self', fd)
  } finally {
    closeSync(fd)
  }
}
