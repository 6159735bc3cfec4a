/** Kind of namespace that a kernel parameter can belong to. */
export type SysctlNamespace = 'network' | 'ipc' | 'uts' | 'user'

/** Kernel parameters that belong to a namespace, by pattern. All others are the host's. */
const patterns: readonly (readonly [RegExp, SysctlNamespace])[] = [
  [/^net\//, 'network'],
  [
    /^(?:fs\/mqueue\/|kernel\/(?:msg(?:max|mnb|mni)|sem|shm(?:all|max|mni|_rmid_forced)|auto_msgmni|(?:msg|sem|shm)_next_id)$)/,
    'ipc',
  ],
  [/^kernel\/(?:hostname|domainname)$/, 'uts'],
  [/^user\//, 'user'],
]

/**
 * Path of a kernel parameter below /proc/sys; undefined for what is no name of one. The first separator of
 * a name counts, as for sysctl(8): in `net/ipv4/conf/eth0.1/forwarding` the dot is part of a name.
 */
export function sysctlPath(name: string): string | undefined {
  if (!/^[\w-]+(?:[./][\w@:*+-]+)+$/.test(name)) return undefined
  const slashes = /[./]/.exec(name)?.[0] === '/'
  return slashes ? name : name.replace(/[./]/g, (separator) => (separator === '.' ? '/' : '.'))
}

/** The namespace that the parameter at a {@link sysctlPath} belongs to; undefined for one of the host. */
export function sysctlNamespace(path: string): SysctlNamespace | undefined {
  return patterns.find(([pattern]) => pattern.test(path))?.[1]
}
