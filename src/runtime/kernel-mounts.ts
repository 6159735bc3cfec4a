import { posix } from 'node:path'
import type { Mount } from '../bundle/spec.ts'
import { InvalidArgumentError } from '../errors.ts'
import type { Host } from './host.ts'
import type { NamespacePlan } from './namespaces.ts'

/** Files of /proc that may be mounted over: lxcfs and the like show a container its own figures by them. */
const replaceable: ReadonlySet<string> = new Set(
  [
    'cpuinfo diskstats meminfo stat swaps uptime loadavg slabinfo',
    'sys/kernel/ns_last_pid sys/crypto/fips_enabled',
  ].flatMap((line) => line.split(' ').map((name) => `/proc/${name}`)),
)

/** Whether a destination lies inside /proc, by its name. */
export function isInsideProc(destination: string): boolean {
  return destination.startsWith('/proc/')
}

/**
 * Refuses mounts over parts of /proc: programs and the runtime trust what they find there (CVE-2019-16884).
 * What leads there by a symlink is found when the mounts are made.
 * @throws InvalidArgumentError
 */
export function refuseInsideProc(destination: string, pointer: string): void {
  if (isInsideProc(destination) && !replaceable.has(destination)) {
    throw new InvalidArgumentError(`${pointer}: ${destination} can't be mounted, because it is inside /proc`)
  }
}

/** @throws InvalidArgumentError for another file system than proc on /proc; of a bind mount it is looked at later. */
export function refuseOtherProc(mount: Mount, destination: string, pointer: string): void {
  if (destination !== '/proc' || mount.type === 'proc') return
  throw new InvalidArgumentError(`${pointer}: only a proc file system can be mounted on /proc, not ${mount.type}`)
}

/** Whether a destination has to be a real directory of the root: the kernel's file systems, and where devices are made. */
export function needsRealDirectory(mount: Mount, destination: string): boolean {
  return ['proc', 'sysfs'].includes(mount.type ?? '') || ['/proc', '/sys', '/dev'].includes(destination)
}

/**
 * Whether nobody but the kernel has said what a destination is: what it lies in is a file system that was made for the
 * container. @param before mounts that are made earlier.
 */
export function isBelowKernelMount(destination: string, before: readonly Mount[]): boolean {
  if (isInsideProc(destination)) return true
  if (!/^\/(?:sys|dev)\//.test(destination)) return false
  const above = before.filter((mount) => destination.startsWith(`${destinationOf(mount)}/`))
  const last = above.reduce<Mount | undefined>((deepest, mount) => {
    return deepest === undefined || destinationOf(mount).length >= destinationOf(deepest).length ? mount : deepest
  }, undefined)
  return last !== undefined && emptyAtFirst.has(last.type ?? '') && !last.options?.some((name) => /^r?bind$/.test(name))
}

/** File systems that have nothing in them but what the kernel puts there. */
const emptyAtFirst: ReadonlySet<string> = new Set(['tmpfs', 'sysfs'])

/** What a mount needs a namespace for that a user namespace owns; without it the host's own tree is shown. */
const owners = { proc: 'pid', sysfs: 'network', mqueue: 'ipc' } as const

/**
 * In a user namespace the kernel lets a process mount proc, sysfs and mqueue only for namespaces that belong to
 * it. For others the host's tree is bound, with the same protection for all that is mounted in it (CVE-2023-25809).
 */
export function adapted(mount: Mount, namespaces: Pick<NamespacePlan, 'has'>, host: Pick<Host, 'isDirectory'>): Mount {
  const type = mount.type as keyof typeof owners
  if (!namespaces.has('user') || !Object.hasOwn(owners, type) || namespaces.has(owners[type])) return mount
  const source = { proc: '/proc', sysfs: '/sys', mqueue: '/dev/mqueue' }[type]
  if (!host.isDirectory(source)) return mount
  const options = (mount.options ?? []).filter((option) => !option.includes('='))
  const recursive = options.filter((option) => /^(?:ro|nosuid|nodev|noexec)$/.test(option)).map((name) => `r${name}`)
  return { destination: mount.destination, type: 'bind', source, options: ['rbind', ...options, ...recursive] }
}

/** A destination as an absolute path without dots and double slashes. */
export function destinationOf(mount: Mount): string {
  return posix.resolve('/', mount.destination)
}
