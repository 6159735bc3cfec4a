import { accessSync, constants, existsSync, readFileSync, statSync } from 'node:fs'
import { release } from 'node:os'
import { isInUserNamespace } from '../linux/own-ids.ts'
import { type Hierarchies, hostHierarchies } from './cgroups/hierarchies.ts'

/** What a plan depends on besides the config: so that planning is a pure function, also in tests. */
export interface Host {
  readonly hierarchies: Hierarchies
  /** Major and minor version of the kernel. */
  readonly kernel: readonly [major: number, minor: number]
  /** Capabilities that this process may hand on, as a bit mask. */
  readonly capabilities: bigint
  /** Ids of this process. */
  readonly uid: number
  readonly gid: number
  /** Whether this process is in a user namespace: as root it may do there what is its own, and no more. */
  readonly inUserNamespace: boolean
  /** Whether a path of the host is a directory. */
  isDirectory(path: string): boolean
  /** Text of a small file of the host; undefined when there is none. */
  read(path: string): string | undefined
  /** Whether this process may write to a path of the host: also of a mount that is not read-only. */
  writable(path: string): boolean
}

let cached: Host | undefined

/** This host, looked at once per process. */
export function thisHost(): Host {
  cached ??= {
    hierarchies: hostHierarchies(),
    kernel: kernelVersion(release()),
    capabilities: boundingSet(readFileSync('/proc/self/status', 'utf8')),
    uid: process.geteuid?.() ?? 0,
    gid: process.getegid?.() ?? 0,
    inUserNamespace: isInUserNamespace(),
    isDirectory: (path) => statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false,
    read: textOf,
    writable: isWritable,
  }
  return cached
}

/** Whether the kernel of `host` is at least version `major.minor`. */
export function kernelAtLeast(host: Pick<Host, 'kernel'>, major: number, minor: number): boolean {
  const [hasMajor, hasMinor] = host.kernel
  return hasMajor > major || (hasMajor === major && hasMinor >= minor)
}

function kernelVersion(text: string): readonly [number, number] {
  const [, major = '0', minor = '0'] = /^(\d+)\.(\d+)/.exec(text) ?? []
  return [Number(major), Number(minor)]
}

function textOf(path: string): string | undefined {
  // To be told so costs less than an error, and cgroups that are to be made are looked for each time.
  if (!existsSync(path)) return undefined
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK)
    return true
  } catch {
    return false
  }
}

function boundingSet(status: string): bigint {
  const permitted = /^CapPrm:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0'
  const bounding = /^CapBnd:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0'
  return BigInt(`0x${permitted}`) & BigInt(`0x${bounding}`)
}
