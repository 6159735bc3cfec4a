import type { IdMapping, Int64 } from './spec.ts'
import type { LinuxResources } from './spec-resources.ts'
import type { LinuxSeccomp } from './spec-seccomp.ts'

/** Settings for Linux (config-linux.md). */
export interface Linux {
  /** Namespaces to make or join, each type once; a type that is not listed is the runtime's. */
  readonly namespaces?: readonly LinuxNamespace[]
  readonly uidMappings?: readonly IdMapping[]
  readonly gidMappings?: readonly IdMapping[]
  /** Offsets of a new time namespace, by clock. */
  readonly timeOffsets?: Readonly<Partial<Record<'boottime' | 'monotonic', LinuxTimeOffset>>>
  /** Device nodes to make, beyond the default ones. */
  readonly devices?: readonly LinuxDevice[]
  /** Network devices of the host to move in, by their name there. */
  readonly netDevices?: Readonly<Record<string, LinuxNetDevice>>
  /** Absolute: relative to the cgroup mount points; else relative to a place of the runtime's choice. */
  readonly cgroupsPath?: string
  readonly resources?: LinuxResources
  readonly intelRdt?: LinuxIntelRdt
  /** NUMA memory policy. */
  readonly memoryPolicy?: LinuxMemoryPolicy
  /** Kernel parameters by name; only such as belong to a namespace of the container. */
  readonly sysctl?: Readonly<Record<string, string>>
  readonly seccomp?: LinuxSeccomp
  readonly rootfsPropagation?: 'shared' | 'slave' | 'private' | 'unbindable' | 'rshared' | 'rslave' | 'rprivate'
  /** Absolute paths that can't be read inside. */
  readonly maskedPaths?: readonly string[]
  /** Absolute paths that can't be written inside. */
  readonly readonlyPaths?: readonly string[]
  /** SELinux context of the mounts. */
  readonly mountLabel?: string
  readonly personality?: LinuxPersonality
}

/** Types of namespaces. */
export type LinuxNamespaceType = 'pid' | 'network' | 'mount' | 'ipc' | 'uts' | 'user' | 'cgroup' | 'time'

/** A namespace: new, or joined when `path` is set. */
export interface LinuxNamespace {
  readonly type: LinuxNamespaceType
  /** Absolute path of a namespace file in the runtime's mount namespace. */
  readonly path?: string
}

/** Offset of a clock. */
export interface LinuxTimeOffset {
  readonly secs?: Int64
  readonly nanosecs?: number
}

/** A device node. */
export interface LinuxDevice {
  /** Character (`c`, `u`), block (`b`) or fifo (`p`). */
  readonly type: 'c' | 'b' | 'u' | 'p'
  /** Absolute path inside the container. */
  readonly path: string
  /** Required but for `p`. */
  readonly major?: number
  readonly minor?: number
  /** Permission bits. */
  readonly fileMode?: number
  readonly uid?: number
  readonly gid?: number
}

/** A network device that moves into the container. */
export interface LinuxNetDevice {
  /** Name inside; the same when not set; `%d` lets the kernel number it. */
  readonly name?: string
}

/** Intel Resource Director Technology. */
export interface LinuxIntelRdt {
  readonly closID?: string
  readonly schemata?: readonly string[]
  readonly l3CacheSchema?: string
  readonly memBwSchema?: string
  readonly enableMonitoring?: boolean
}

/** Policy as in set_mempolicy(2). */
export interface LinuxMemoryPolicy {
  readonly mode:
    | 'MPOL_DEFAULT'
    | 'MPOL_BIND'
    | 'MPOL_INTERLEAVE'
    | 'MPOL_WEIGHTED_INTERLEAVE'
    | 'MPOL_PREFERRED'
    | 'MPOL_PREFERRED_MANY'
    | 'MPOL_LOCAL'
  /** Node list such as `0-3,7`. */
  readonly nodes?: string
  readonly flags?: readonly ('MPOL_F_NUMA_BALANCING' | 'MPOL_F_RELATIVE_NODES' | 'MPOL_F_STATIC_NODES')[]
}

/** Execution domain as in personality(2). */
export interface LinuxPersonality {
  readonly domain: 'LINUX' | 'LINUX32'
  readonly flags?: readonly string[]
}
