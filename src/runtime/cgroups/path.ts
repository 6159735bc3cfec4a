import { join, posix } from 'node:path'
import { ConflictError, InvalidArgumentError } from '../../errors.ts'
import type { Call } from '../../linux/call.ts'
import { AT_FDCWD, mkdirat } from '../../linux/calls/files.ts'
import type { Host } from '../host.ts'

/** Name of a container's cgroup that has no path of its own. */
export function defaultName(id: string): string {
  return `oci-ts-${id}`
}

/**
 * A cgroup's path below the mount points, with a slash before it. A relative one starts at `base`.
 * @throws InvalidArgumentError for a path that climbs, or names no cgroup.
 */
export function cgroupPath(path: string, base: string): string {
  // A path that climbs out of the hierarchy would limit, freeze or kill strangers (crun 1.29, exec --cgroup).
  if (path.split('/').includes('..')) {
    throw new InvalidArgumentError(`linux.cgroupsPath must not contain "..": ${JSON.stringify(path)}`)
  }
  const normal = posix.normalize(`/${path}/`).slice(0, -1)
  // With the container its cgroup is removed, and what is left in it killed: never the root of a hierarchy.
  if (normal === '') throw new InvalidArgumentError(`linux.cgroupsPath names no cgroup: ${JSON.stringify(path)}`)
  return path.startsWith('/') ? normal : posix.join('/', base, normal)
}

/** What is in a container's cgroup dies with it; who was there before must not. */
export function refuseMembers(host: Pick<Host, 'read'>, directory: string): void {
  if ((host.read(join(directory, 'cgroup.procs')) ?? '') === '') return
  throw new ConflictError(directory, `the cgroup ${directory} has processes in it`, {
    hint: 'Give each container a cgroupsPath of its own.',
  })
}

/** Makes `path` below a mount point, one directory after the other. */
export function makeDirectories(mountPoint: string, path: string): readonly Call[] {
  return ancestors(mountPoint, path)
    .slice(1)
    .map((directory) => mkdirat(AT_FDCWD, directory, 0o755, { tolerate: 'EEXIST', step: 'set up the cgroup' }))
}

/** The mount point, and every directory below it on the way down `path`. */
export function ancestors(mountPoint: string, path: string): readonly string[] {
  const all = [mountPoint]
  let directory = mountPoint
  for (const name of path.split('/').filter((part) => part !== '')) {
    directory = join(directory, name)
    all.push(directory)
  }
  return all
}
