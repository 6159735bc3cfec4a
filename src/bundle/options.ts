import type { Bytes } from '../internal/units.ts'
import type { Hooks, IdMapping, Int64, Mount } from './spec.ts'
import type { LinuxDevice } from './spec-linux.ts'
import type { ConsoleSize } from './spec-process.ts'
import type { LinuxResources } from './spec-resources.ts'
import type { LinuxSeccomp } from './spec-seccomp.ts'
import type { AccountFiles } from './user.ts'

/** A namespace of the container: its own, the runtime's, or one that is joined by its path. */
export type NamespaceMode = 'private' | 'host' | { readonly path: string }

/** What `createSpec` is to put into a config.json beside what the image says. Only `id` is needed. */
export interface BundleOptions {
  /** The container's id; the default host name is its first 12 characters. */
  readonly id: string
  /** Path of the root filesystem, absolute or relative to the bundle. Default `rootfs`. */
  readonly rootfs?: string
  /** Whether the root filesystem is read-only. Default false. */
  readonly readOnly?: boolean

  /** Replaces the image's entrypoint, and with it the image's command. */
  readonly entrypoint?: readonly string[]
  /** Replaces the image's command: arguments of the entrypoint, or program and arguments where there is none. */
  readonly command?: readonly string[]
  /** Variables over those of the image; undefined or null removes one. */
  readonly env?: Readonly<Record<string, string | null | undefined>>
  /** Absolute path. Default the image's, else `/`. */
  readonly workingDir?: string
  /** `user[:group]`, by name or id. Default the image's, else root. */
  readonly user?: string
  /** Further groups, by name or id. */
  readonly groups?: readonly string[]
  /** The image's account files, where names, groups and home directories are looked up. */
  readonly accounts?: AccountFiles
  /** Permission bits that new files don't get; the runtime's when not set. */
  readonly umask?: number
  /** Whether the process gets a pseudo-terminal. Default false. */
  readonly terminal?: boolean
  /** Size of the terminal in characters. */
  readonly consoleSize?: ConsoleSize

  /** Host name. Default the first 12 characters of `id`; none in the host's uts namespace. */
  readonly hostname?: string
  readonly domainname?: string

  /** Default private. */
  readonly pid?: NamespaceMode
  /** Default private; connecting it to anything is not the bundle's business. */
  readonly network?: NamespaceMode
  /** Default private. */
  readonly ipc?: NamespaceMode
  /** Default private. */
  readonly uts?: NamespaceMode
  /** Default private. */
  readonly cgroup?: NamespaceMode
  /** Default host, unlike Docker since 2026: clocks without offsets read the same in either. */
  readonly time?: NamespaceMode
  /** A new user namespace with these mappings, as ordinary users need it. Default none. */
  readonly userNamespace?: UserNamespace

  /** Mounts beside Docker's default ones, which give way to one with the same target. */
  readonly mounts?: readonly MountOption[]
  /** Size of /dev/shm. Default 64 MiB. */
  readonly shmSize?: Bytes
  /** Device nodes beyond the default ones, with the access that is granted. */
  readonly devices?: readonly DeviceOption[]

  /** Changes to Docker's 14 default capabilities. */
  readonly capabilities?: {
    /** Names with or without `CAP_`, in any case, or `ALL`. */
    readonly add?: readonly string[]
    readonly drop?: readonly string[]
  }
  /** Docker's default profile, none, or one's own. Default `default`. */
  readonly seccomp?: 'default' | 'unconfined' | LinuxSeccomp
  /** Whether the process can never gain privileges (setuid binaries, file capabilities). Default false. */
  readonly noNewPrivileges?: boolean
  /** AppArmor profile. Default the runtime's. */
  readonly apparmorProfile?: string
  /** SELinux label of the process, and of the mounts. */
  readonly selinuxLabel?: string
  readonly mountLabel?: string
  /** Replaces the default masked paths. */
  readonly maskedPaths?: readonly string[]
  /** Replaces the default read-only paths. */
  readonly readonlyPaths?: readonly string[]
  /** Kernel parameters beside Docker's default ones. */
  readonly sysctl?: Readonly<Record<string, string>>

  /** Memory limit; memory and swap together get twice as much, as with Docker, unless `memorySwap` is set. */
  readonly memory?: Bytes
  /** Limit of memory and swap together; -1 for no limit on swap. Needs `memory`. */
  readonly memorySwap?: Bytes
  /** Soft limit of memory. */
  readonly memoryReservation?: Bytes
  /** CPUs' worth of time: 0.5 is half of one. At least 0.01. */
  readonly cpus?: number
  /** Relative weight, 2 to 262144; 1024 is the kernel's default. */
  readonly cpuShares?: number
  /** CPUs to run on, such as `0-3,7`. */
  readonly cpusetCpus?: string
  /** Memory nodes to use, such as `0`. */
  readonly cpusetMems?: string
  /** Number of processes and threads, at least 1; -1 for no limit. Default no limit of its own. */
  readonly pids?: number
  /** Further cgroup settings; they win over the options above. */
  readonly resources?: LinuxResources
  /** -1000 (never killed) to 1000 (killed first). Default the runtime's own. */
  readonly oomScoreAdj?: number
  /** Resource limits by name (`nofile`); a number is both soft and hard limit. Default none: nothing is raised. */
  readonly ulimits?: Readonly<Record<string, Ulimit>>
  /** Path of the cgroup below the mount point of each hierarchy. Default the runtime's, `/oci-ts-<id>`. */
  readonly cgroupsPath?: string

  readonly hooks?: Hooks
  readonly annotations?: Readonly<Record<string, string>>
  /** Facts about the machine that will run the bundle. */
  readonly host?: HostFacts
}

/** What a spec depends on of the machine that will run it. */
export interface HostFacts {
  /** GOARCH name: `amd64`, `arm64`. Default the image's architecture, else this machine's. */
  readonly architecture?: string
  /** Further paths to mask: `hostMaskedPaths` finds those that Docker masks. */
  readonly maskedPaths?: readonly string[]
}

/** A user namespace: new with mappings, or joined. */
export interface UserNamespace {
  readonly uidMappings?: readonly IdMapping[]
  readonly gidMappings?: readonly IdMapping[]
  /** Namespace file to join; then without mappings. */
  readonly path?: string
}

/** A mount that a user asks for. */
export type MountOption = BindMountOption | TmpfsMountOption | SpecMountOption

/** A file or directory of the host, or a volume's directory. */
export interface BindMountOption {
  readonly type: 'bind' | 'volume'
  /** Absolute path on the host; for a volume the directory that holds it. */
  readonly source: string
  /** Absolute path in the container. */
  readonly target: string
  /** Whether it can't be written, nor anything mounted below it. Default false. */
  readonly readOnly?: boolean
  /** Default `rprivate`. */
  readonly propagation?: 'private' | 'rprivate' | 'shared' | 'rshared' | 'slave' | 'rslave'
  /** Whether mounts below the source come along. Default true. */
  readonly recursive?: boolean
  /**
   * Whether owners on the disk are those that the container sees: they are mapped by its user namespace, on this mount alone.
   * Takes root and a file system that has idmapped mounts. Default false.
   */
  readonly idmap?: boolean
}

/** A filesystem in memory. */
export interface TmpfsMountOption {
  readonly type: 'tmpfs'
  /** Absolute path in the container. */
  readonly target: string
  /** Default half of the host's memory, which is the kernel's default. */
  readonly size?: Bytes
  /** Permission bits of the root directory. Default 0o1777. */
  readonly mode?: number
  /** Default false. */
  readonly readOnly?: boolean
  /** Whether programs in it can be run. Default false. */
  readonly exec?: boolean
}

/** A mount as config.json has it. */
export interface SpecMountOption {
  readonly type: 'spec'
  readonly mount: Mount
}

/** A device node and what may be done with it. */
export interface DeviceOption extends LinuxDevice {
  /** Letters of `rwm`. Default `rwm`. */
  readonly access?: string
}

/** A resource limit; `unlimited` is RLIM_INFINITY. */
export type Ulimit =
  | UlimitValue
  | {
      readonly soft: UlimitValue
      readonly hard: UlimitValue
    }

/** A value of a resource limit. */
export type UlimitValue = Int64 | 'unlimited'
