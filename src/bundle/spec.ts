import type { Linux } from './spec-linux.ts'
import type { Process } from './spec-process.ts'

/** Version of the runtime-spec that the types of this module follow and that generated specs state. */
export const specVersion = '1.3.0'

/**
 * A 64-bit integer of config.json. {@link readBundle} yields a `bigint` where a JavaScript number
 * can't hold the value exactly (beyond 2^53 - 1); everywhere else it is a number.
 */
export type Int64 = number | bigint

/** A bundle's config.json (runtime-spec 1.3, config.md). Values can be frozen and shared. */
export interface Spec {
  /** Version of the runtime-spec that the document complies with, SemVer 2.0. */
  readonly ociVersion: string
  /** The container's root filesystem. Required everywhere but on Windows Hyper-V. */
  readonly root?: Root
  /** Mounts beyond the root, made in this order. */
  readonly mounts?: readonly Mount[]
  /** The container's process. Required at `start`. */
  readonly process?: Process
  /** Host name; needs a `uts` namespace. */
  readonly hostname?: string
  /** NIS domain name; needs a `uts` namespace. */
  readonly domainname?: string
  /** Programs to run at events of the lifecycle. */
  readonly hooks?: Hooks
  /** Metadata for whom it concerns; unknown keys mean nothing to a runtime. */
  readonly annotations?: Readonly<Record<string, string>>
  /** Settings for Linux. */
  readonly linux?: Linux
  /** Settings for other platforms; kept, not interpreted. */
  readonly solaris?: Readonly<Record<string, unknown>>
  readonly windows?: Readonly<Record<string, unknown>>
  readonly vm?: Readonly<Record<string, unknown>>
  readonly zos?: Readonly<Record<string, unknown>>
  readonly freebsd?: Readonly<Record<string, unknown>>
}

/** The container's root filesystem (config.md, "Root"). */
export interface Root {
  /** Path of a directory, absolute or relative to the bundle. */
  readonly path: string
  /** Whether the root is read-only inside the container. Default false. */
  readonly readonly?: boolean
}

/** One mount (config.md, "Mounts"). */
export interface Mount {
  /** Where in the container. A relative path (deprecated) is taken relative to `/`. */
  readonly destination: string
  /** Filesystem type; a dummy for bind mounts. */
  readonly type?: string
  /** Device, path of a bind mount, or a dummy. A relative bind source is relative to the bundle. */
  readonly source?: string
  /** Options of the spec's table; unknown ones go to the filesystem as data. */
  readonly options?: readonly string[]
  /** Ids of the source's owners to the mount's; only together with `gidMappings`. */
  readonly uidMappings?: readonly IdMapping[]
  readonly gidMappings?: readonly IdMapping[]
}

/** A range of user or group ids (config-linux.md, "User namespace mappings"). */
export interface IdMapping {
  /** First id inside. */
  readonly containerID: number
  /** First id outside. */
  readonly hostID: number
  /** Number of ids. */
  readonly size: number
}

/** Programs by the event they run at (config.md, "POSIX-platform Hooks"). */
export interface Hooks {
  /** @deprecated Since runtime-spec 1.0.2; use `createRuntime`, `createContainer` or `startContainer`. */
  readonly prestart?: readonly Hook[]
  /** During create, after the namespaces exist, before pivot_root; in the runtime's namespaces. */
  readonly createRuntime?: readonly Hook[]
  /** The same moment; in the container's namespaces, the program is found in the runtime's. */
  readonly createContainer?: readonly Hook[]
  /** Right before the user's process, as part of start; wholly in the container. */
  readonly startContainer?: readonly Hook[]
  /** After the user's process started; in the runtime's namespaces. */
  readonly poststart?: readonly Hook[]
  /** After the container was deleted; in the runtime's namespaces. A failure is a warning. */
  readonly poststop?: readonly Hook[]
}

/** One program; it gets the container's state on standard input. */
export interface Hook {
  /** Absolute path. */
  readonly path: string
  /** `argv`, the first entry included. */
  readonly args?: readonly string[]
  /** `KEY=value` entries; nothing is inherited. */
  readonly env?: readonly string[]
  /** Seconds after which the hook is ended and has failed; greater than 0. Unlimited when not set. */
  readonly timeout?: number
}
