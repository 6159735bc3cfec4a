import { join, posix } from 'node:path'
import { InvalidArgumentError } from '../errors.ts'
import { describe } from '../internal/choice.ts'
import { isJsonObject } from '../internal/json.ts'
import type { Call } from '../linux/call.ts'
import { AT_FDCWD, close, dup3, mkdirat, O, O_DIRECTORY, openat, write } from '../linux/calls/files.ts'
import type { Host } from './host.ts'

/** A directory of the container's cgroup, or of the one that its first process is in without its being the container's. */
export interface ExecCgroup {
  readonly directory: string
  readonly version: 1 | 2
  /** Those of a version 1 hierarchy; none for version 2. */
  readonly controllers: readonly string[]
  /** Whether it is the container's: below others nothing is made. */
  readonly isOwn: boolean
}

/** A path below the container's cgroup: the same in all hierarchies, or by controller of version 1. */
export type SubCgroupPath = string | Readonly<Record<string, string>>

/** A directory that may have been made for one process. */
export interface SubCgroup {
  readonly path: string
  /** The call that makes it; it gives 0 when it has. */
  readonly made: Call
}

/** What is planned. */
export interface ExecCgroupOptions {
  readonly cgroups: readonly ExecCgroup[]
  /** Path below those that are the container's. */
  readonly subCgroup?: SubCgroupPath | undefined
  /** First of the descriptor numbers that may be used. */
  readonly firstDescriptor: number
  readonly host: Pick<Host, 'read'>
}

/** The calls that put an exec's process into the cgroup. */
export interface CgroupCalls {
  /** Made by the monitor, and the descriptor of the directory that the joiner is born in. */
  readonly v2: { readonly open: readonly Call[]; readonly descriptor: number } | undefined
  /** Made by the joiner, before it joins. */
  readonly open: readonly Call[]
  /** Directories that calls of `v2` or `open` make; one that gives 0 has made it. */
  readonly made: readonly SubCgroup[]
  /** Made by the new process. */
  readonly join: readonly Call[]
}

/**
 * Plans how a process gets into the directories of a container's cgroup, or of one below it.
 * @throws InvalidArgumentError for a path that leads out of it.
 */
export function planExecCgroups(options: ExecCgroupOptions): CgroupCalls {
  const { cgroups } = options
  const subOf = subPaths(options.subCgroup, cgroups)
  const why = { step: 'join the cgroup' }
  const open: Call[] = []
  const made: SubCgroup[] = []
  const joins: Call[] = []
  let number = options.firstDescriptor
  const openAs = (path: string, flags: number): readonly Call[] => {
    const opened = openat(AT_FDCWD, path, flags, 0, why)
    return [opened, dup3(opened, number, O.CLOEXEC, why), close(opened)]
  }
  let v2: CgroupCalls['v2']
  for (const each of cgroups) {
    const { directory, version } = each
    const sub = subOf(each)
    const path = join(directory, sub)
    const make = sub === '' ? [] : makeSubCgroup(options.host, each, path)
    if (make[0] !== undefined) made.push({ path, made: make[0] })
    if (version === 2) {
      // By whoever makes the process: inside the container's cgroup namespace it would be out of reach.
      v2 = { open: [...make, ...openAs(path, O.RDONLY | O_DIRECTORY)], descriptor: number }
    } else {
      open.push(...make, ...openAs(join(path, 'tasks'), O.WRONLY))
      joins.push(write(number, '0', why), close(number))
    }
    number++
  }
  return { v2, open, made, join: joins }
}

/** The first call makes the directory. A cpuset of version 1 takes no process before it has processors and memory. */
function makeSubCgroup(host: Pick<Host, 'read'>, above: ExecCgroup, path: string): readonly Call[] {
  const why = { step: `make the cgroup ${path}` }
  const files = above.version === 1 ? ['cpuset.cpus', 'cpuset.mems'] : []
  const inherited = files.flatMap((name) => {
    const value = host.read(join(above.directory, name))?.trim()
    if (value === undefined || value === '') return []
    const file = openat(AT_FDCWD, join(path, name), O.WRONLY, 0, why)
    return [file, write(file, value, why), close(file)]
  })
  return [mkdirat(AT_FDCWD, path, 0o755, { ...why, tolerate: 'EEXIST' }), ...inherited]
}

/** @throws InvalidArgumentError for controllers that the container has no cgroup of its own for. */
function subPaths(wanted: SubCgroupPath = '', cgroups: readonly ExecCgroup[]): (cgroup: ExecCgroup) => string {
  if (typeof wanted === 'string') {
    const sub = subPath(wanted)
    return ({ isOwn }) => (isOwn ? sub : '')
  }
  if (!isJsonObject(wanted)) throw noPath(wanted)
  const subs = new Map<ExecCgroup, string>()
  for (const [controller, path] of Object.entries(wanted)) {
    const cgroup = cgroups.find(({ controllers, isOwn }) => isOwn && controllers.includes(controller))
    const sub = subPath(path)
    if (cgroup === undefined) {
      throw new InvalidArgumentError(`the container has no cgroup of version 1 with the controller ${controller}`, {
        subject: controller,
        hint: 'On version 2 there is one tree for all: give one path. On version 1 it has those of its limits; see accounting.',
      })
    }
    if ((subs.get(cgroup) ?? sub) !== sub) {
      throw new InvalidArgumentError(`the controllers ${cgroup.controllers.join(', ')} have one cgroup together`, {
        subject: controller,
      })
    }
    subs.set(cgroup, sub)
  }
  return (cgroup) => subs.get(cgroup) ?? ''
}

/** @throws InvalidArgumentError for a path that leads out of the container's cgroup. */
function subPath(path: string): string {
  if (typeof path !== 'string' || path.includes('\0')) throw noPath(path)
  if (path.split('/').includes('..')) {
    throw new InvalidArgumentError(`the cgroup of an exec must not contain "..": ${JSON.stringify(path)}`, {
      subject: path,
    })
  }
  return posix.normalize(`/${path}`).replace(/^\/|\/$/g, '')
}

function noPath(given: unknown): InvalidArgumentError {
  return new InvalidArgumentError(
    `the cgroup of an exec must be a path, or paths by controller, not ${describe(given)}`,
    {
      subject: 'cgroup',
    },
  )
}
