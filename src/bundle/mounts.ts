import { posix } from 'node:path'
import { InvalidArgumentError } from '../errors.ts'
import { quote } from '../internal/text.ts'
import { toBytes } from '../internal/units.ts'
import { defaultMounts, defaultShmSize } from './defaults.ts'
import type { BundleOptions, MountOption } from './options.ts'
import type { IdMapping, Mount } from './spec.ts'

/**
 * The default mounts and the user's, as Docker puts them together: the user's win over default ones
 * with the same target, one on /dev over all below it; they come last, parents before children.
 * @throws InvalidArgumentError
 */
export function specMounts(options: BundleOptions): readonly Mount[] {
  const wanted = (options.mounts ?? []).map(specMount)
  const targets = new Set<string>()
  for (const { destination } of wanted) {
    const target = posix.resolve('/', destination)
    if (targets.has(target)) throw fault(`two mounts have the target ${quote(target)}`)
    targets.add(target)
  }
  const defaults = defaultMounts
    .filter(({ destination }) => !targets.has(destination))
    .filter(({ destination }) => !(targets.has('/dev') && destination.startsWith('/dev/')))
    .map((mount) => adapt(mount, options))
  const depth = (mount: Mount): number => posix.resolve('/', mount.destination).split('/').length
  return [...defaults, ...wanted.sort((a, b) => depth(a) - depth(b))]
}

function adapt(mount: Mount, options: BundleOptions): Mount {
  const { userNamespace, readOnly = false } = options
  switch (mount.destination) {
    case '/dev/mqueue':
      return options.ipc === 'host' && userNamespace !== undefined ? hostTree(mount) : mount
    case '/dev/shm':
      if (options.ipc === 'host') return hostTree(mount)
      return withOption(mount, `size=${toBytes(options.shmSize ?? defaultShmSize, 'shmSize')}`)
    case '/dev/pts':
      // The kernel refuses a gid that has no name in the user namespace.
      return userNamespace?.path === undefined && userNamespace !== undefined && !maps(userNamespace.gidMappings, 5)
        ? { ...mount, options: (mount.options ?? []).filter((option) => option !== 'gid=5') }
        : mount
    case '/proc':
      return options.pid === 'host' && userNamespace !== undefined ? hostTree(mount) : mount
    case '/sys':
      // A sysfs shows a network namespace, so only who owns that may mount one.
      return options.network === 'host' && userNamespace !== undefined ? hostTree(mount) : mount
    default:
      return readOnly && !mount.destination.startsWith('/dev') && !mount.options?.includes('ro')
        ? withOption(mount, 'ro')
        : mount
  }
}

function maps(ranges: readonly IdMapping[] | undefined, id: number): boolean {
  return (ranges ?? []).some(({ containerID, size }) => id >= containerID && id < containerID + size)
}

/** The host's own tree instead of a new filesystem, with the same protection. */
function hostTree({ destination, options = [] }: Mount): Mount {
  return {
    destination,
    type: 'none',
    source: destination,
    options: ['rbind', ...options.filter((o) => !o.includes('='))],
  }
}

function withOption(mount: Mount, option: string): Mount {
  return { ...mount, options: [...(mount.options ?? []), option] }
}

/**
 * The propagation that the root needs for the mounts in it to have theirs, as Docker derives it;
 * undefined for the runtime's own choice.
 */
export function rootPropagation({ mounts = [] }: BundleOptions): 'shared' | 'slave' | undefined {
  const wanted = mounts.map((mount) => ('propagation' in mount ? mount.propagation : undefined))
  if (wanted.some((one) => one === 'shared' || one === 'rshared')) return 'shared'
  return wanted.some((one) => one === 'slave' || one === 'rslave') ? 'slave' : undefined
}

function specMount(option: MountOption): Mount {
  if (option.type === 'spec') return option.mount
  const { target } = option
  if (!target.startsWith('/') || posix.resolve(target) === '/' || target.includes('\0')) {
    throw fault(`the target of a mount must be an absolute path other than /, not ${quote(target)}`)
  }
  if (option.type === 'tmpfs') {
    const { size, mode = 0o1777, exec = false, readOnly = false } = option
    return {
      destination: target,
      type: 'tmpfs',
      source: 'tmpfs',
      options: [
        ...(exec ? [] : ['noexec']),
        'nosuid',
        'nodev',
        ...(readOnly ? ['ro'] : []),
        'rprivate',
        `mode=${mode.toString(8)}`,
        ...(size === undefined ? [] : [`size=${toBytes(size, 'mounts[].size')}`]),
      ],
    }
  }
  const { source, readOnly = false, propagation = 'rprivate', recursive = true, idmap = false } = option
  if (!source.startsWith('/') || source.includes('\0')) {
    throw fault(`the source of a ${option.type} mount must be an absolute path, not ${quote(source)}`)
  }
  return {
    destination: target,
    type: 'bind',
    source,
    // `rro` is `ro` for mounts below, too; a runtime or kernel that does not know it still sees `ro`.
    options: [
      recursive ? 'rbind' : 'bind',
      ...(readOnly ? (recursive ? ['ro', 'rro'] : ['ro']) : []),
      propagation,
      ...(idmap ? ['idmap'] : []),
    ],
  }
}

function fault(message: string): InvalidArgumentError {
  return new InvalidArgumentError(message, { subject: 'mounts' })
}
