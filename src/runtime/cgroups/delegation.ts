import { join, posix } from 'node:path'
import type { Host } from '../host.ts'

/**
 * Where a relative path starts in version 2: at the mount point for root; for an ordinary user in the part of the
 * tree that was handed over, at the nearest cgroup above this process that can hand `controllers` down.
 * Undefined when there is none.
 */
export function delegatedBase(
  host: Pick<Host, 'read' | 'writable' | 'uid' | 'inUserNamespace'>,
  mountPoint: string,
  controllers: readonly string[],
): string | undefined {
  if (isHostRoot(host)) return '/'
  const own = /^0::(.*)$/m.exec(host.read('/proc/self/cgroup') ?? '')?.[1]
  if (own === undefined) return undefined
  for (let path = posix.normalize(`/${own}`); ; path = posix.dirname(path)) {
    const directory = join(mountPoint, path)
    // A process can be moved only within what is handed over, and this one's cgroup is part of the way.
    if (!host.writable(directory) || !host.writable(join(directory, 'cgroup.procs'))) return undefined
    const given = (host.read(join(directory, 'cgroup.subtree_control')) ?? '').trim().split(' ')
    const isEmpty = (host.read(join(directory, 'cgroup.procs')) ?? '') === ''
    // The kernel lets no cgroup hand controllers down that has processes itself.
    if (isEmpty || controllers.every((controller) => given.includes(controller))) return path
    if (path === '/') return undefined
  }
}

const CAP_SYS_ADMIN = 21n

/** Whether this process may load BPF programs: never in a user namespace, whatever its capabilities are. */
export function mayLoadPrograms(host: Pick<Host, 'capabilities' | 'inUserNamespace'>): boolean {
  return ((host.capabilities >> CAP_SYS_ADMIN) & 1n) === 1n && !host.inUserNamespace
}

/** Whether all cgroups are this process's to change. */
export function isHostRoot({ uid, inUserNamespace }: Pick<Host, 'uid' | 'inUserNamespace'>): boolean {
  return uid === 0 && !inUserNamespace
}
