import { readFile, rmdir } from 'node:fs/promises'
import { join, posix } from 'node:path'
import type { LinuxResources } from '../../bundle/spec-resources.ts'
import { ConflictError, InvalidArgumentError, UnsupportedError } from '../../errors.ts'
import { delay } from '../../internal/abort.ts'
import type { Call } from '../../linux/call.ts'
import { AT_FDCWD, close, dup3, mkdirat, O, O_DIRECTORY, openat, write } from '../../linux/calls/files.ts'
import { kill, SIGKILL } from '../../linux/calls/processes.ts'
import { perform } from '../../linux/local.ts'
import type { Host } from '../host.ts'
import { v1MountPoint } from './hierarchies.ts'
import { type CgroupSetting, v1Settings, v2Settings } from './resources.ts'

/** Directories of a container's cgroup, one per hierarchy that it needs. */
export interface CgroupPlan {
  /** Version 1: controller -> directory. */
  readonly v1: ReadonlyMap<string, string>
  /** Version 2: the directory, when its controllers are needed. */
  readonly v2: string | undefined
  /** Makes the directories, sets the limits, and opens what {@link joinCalls} writes to. */
  readonly create: readonly Call[]
  /** Puts the calling process in; to be made by the container's first process. */
  readonly join: readonly Call[]
  /** Number of the descriptor of the version 2 directory, for clone3(CLONE_INTO_CGROUP). */
  readonly v2Descriptor: number | undefined
}

/** What decides where a cgroup goes. */
export interface CgroupOptions {
  readonly id: string
  /** `linux.cgroupsPath`: absolute below the mount points, or relative; default `/oci-ts-<id>`. */
  readonly path?: string | undefined
  readonly resources?: LinuxResources | undefined
  readonly host: Pick<Host, 'hierarchies' | 'read'>
  /** First of the descriptor numbers that may be used. */
  readonly firstDescriptor: number
}

const step = 'set up the cgroup'

/**
 * Plans the cgroup of a container. Only hierarchies whose controllers have a limit are joined; none at
 * all when there is no limit.
 * @throws UnsupportedError when no hierarchy has a controller that is needed.
 */
export function planCgroup(options: CgroupOptions): CgroupPlan {
  const path = cgroupPath(options)
  const { host, resources = {} } = options
  const { hierarchies } = host
  const v1 = new Map<string, string>()
  const create: Call[] = []
  const join_: Call[] = []
  let descriptor = options.firstDescriptor

  const settings = v1Settings(resources).filter((s) => v1MountPoint(hierarchies, s.controller) !== undefined)
  for (const controller of new Set(settings.map((s) => s.controller))) {
    const directory = join(v1MountPoint(hierarchies, controller) as string, path)
    // Controllers mounted together share one directory.
    const shared = [...v1.values()].includes(directory)
    v1.set(controller, directory)
    if (shared) continue
    refuseMembers(host, directory)
    const mountPoint = v1MountPoint(hierarchies, controller) as string
    create.push(...makeDirectories(mountPoint, path))
    if (controller === 'cpuset') create.push(...inheritCpuset(host, mountPoint, path, resources))
    // A single thread that moves itself through `tasks` need not wait for the lock of all process
    // groups (kernel/cgroup/cgroup.c, cgroup_procs_write_start): 0.03 ms instead of an RCU grace period.
    create.push(...openAs(join(directory, 'tasks'), O.WRONLY, descriptor))
    join_.push(write(descriptor, '0', { step: `join the ${controller} cgroup` }), close(descriptor))
    descriptor++
  }
  for (const setting of settings) create.push(...apply(v1.get(setting.controller) as string, setting))

  const remaining = v2Settings(resources).filter((s) => !v1MountPoint(hierarchies, s.controller))
  let v2: string | undefined
  let v2Descriptor: number | undefined
  if (remaining.length > 0) {
    const mountPoint = v2MountPoint(host, remaining)
    const directory = join(mountPoint, path)
    v2 = directory
    refuseMembers(host, directory)
    create.push(...makeDirectories(mountPoint, path), ...enableControllers(mountPoint, path, remaining))
    create.push(...remaining.flatMap((setting) => apply(directory, setting)))
    create.push(...openAs(directory, O.RDONLY | O_DIRECTORY, descriptor))
    v2Descriptor = descriptor
    join_.push(close(descriptor))
  }
  return { v1, v2, create, join: join_, v2Descriptor }
}

function cgroupPath(options: CgroupOptions): string {
  const path = options.path ?? `/oci-ts-${options.id}`
  // A path that climbs out of the hierarchy would limit, freeze or kill strangers (crun 1.29, exec --cgroup).
  if (path.split('/').includes('..')) {
    throw new InvalidArgumentError(`linux.cgroupsPath must not contain "..": ${JSON.stringify(path)}`)
  }
  const normal = posix.normalize(`/${path}/`).slice(0, -1)
  // With the container its cgroup is removed, and what is left in it killed: never the root of a hierarchy.
  if (normal === '') throw new InvalidArgumentError(`linux.cgroupsPath names no cgroup: ${JSON.stringify(path)}`)
  return normal
}

/** What is in a container's cgroup dies with it; who was there before must not. */
function refuseMembers(host: Pick<Host, 'read'>, directory: string): void {
  if ((host.read(join(directory, 'cgroup.procs')) ?? '') === '') return
  throw new ConflictError(directory, `the cgroup ${directory} has processes in it`, {
    hint: 'Give each container a cgroupsPath of its own.',
  })
}

function v2MountPoint(host: Pick<Host, 'hierarchies' | 'read'>, settings: readonly CgroupSetting[]): string {
  const mountPoint = host.hierarchies.v2?.mountPoint
  const controllers = mountPoint === undefined ? '' : host.read(join(mountPoint, 'cgroup.controllers'))
  const available = (controllers ?? '').trim().split(' ')
  const missing = settings.find((s) => s.controller !== 'cgroup' && !available.includes(s.controller))
  if (mountPoint === undefined || missing !== undefined) {
    throw new UnsupportedError(`the limit ${missing?.pointer ?? ''}`, 'this host has no cgroup controller for it', {
      hint: `Mount the cgroup hierarchy of the controller ${missing?.controller ?? ''}, or leave the limit out.`,
    })
  }
  return mountPoint
}

/** Makes `path` below a mount point, one directory after the other. */
function makeDirectories(mountPoint: string, path: string): readonly Call[] {
  return ancestors(mountPoint, path)
    .slice(1)
    .map((directory) => mkdirat(AT_FDCWD, directory, 0o755, { tolerate: 'EEXIST', step }))
}

/** The mount point, and every directory below it on the way down `path`. */
function ancestors(mountPoint: string, path: string): readonly string[] {
  const all = [mountPoint]
  let directory = mountPoint
  for (const name of path.split('/').filter((part) => part !== '')) {
    directory = join(directory, name)
    all.push(directory)
  }
  return all
}

/** Version 2: a controller works in a directory only when every directory above hands it down. */
function enableControllers(mountPoint: string, path: string, settings: readonly CgroupSetting[]): readonly Call[] {
  const needed = new Set(settings.map((s) => s.controller).filter((controller) => controller !== 'cgroup'))
  const value = [...needed].map((controller) => `+${controller}`).join(' ')
  if (value === '') return []
  return ancestors(mountPoint, path)
    .slice(0, -1)
    .flatMap((directory) => {
      const file = openat(AT_FDCWD, join(directory, 'cgroup.subtree_control'), O.WRONLY, 0, { step })
      return [file, write(file, value, { step: `hand down the cgroup controllers ${value}` }), close(file)]
    })
}

function openAs(path: string, flags: number, descriptor: number): readonly Call[] {
  const opened = openat(AT_FDCWD, path, flags, 0, { step })
  return [opened, dup3(opened, descriptor, O.CLOEXEC, { step }), close(opened)]
}

function apply(directory: string, setting: CgroupSetting): readonly Call[] {
  const { value, pointer } = setting
  const why = { step: `set ${setting.file} to ${value}`, pointer }
  const tolerate = setting.tolerate === undefined ? {} : { tolerate: 'any' }
  const file = openat(AT_FDCWD, join(directory, setting.file), O.WRONLY, 0, {
    ...why,
    ...(setting.tolerate === undefined ? {} : { tolerate: setting.tolerate }),
  })
  return [file, write(file, value, { ...why, ...tolerate }), close(file, { tolerate: 'EBADF' })]
}

/** A version 1 cpuset is empty when it is made, and takes no process until both files are set; so on every level. */
function inheritCpuset(
  host: Pick<Host, 'read'>,
  mountPoint: string,
  path: string,
  resources: LinuxResources,
): readonly Call[] {
  const calls: Call[] = []
  const pointer = '/linux/resources/cpu'
  for (const [file, value] of [
    ['cpuset.cpus', resources.cpu?.cpus],
    ['cpuset.mems', resources.cpu?.mems],
  ] as const) {
    const all = ancestors(mountPoint, path)
    const own = all.at(-1)
    let inherited = ''
    for (const directory of all) {
      const present = host.read(join(directory, file))?.trim() ?? ''
      if (present === '' && !(directory === own && value !== undefined)) {
        calls.push(...apply(directory, { controller: 'cpuset', file, value: inherited, pointer }))
      } else {
        inherited = present
      }
    }
  }
  return calls
}

/** Every directory of a cgroup. */
export function directoriesOf(cgroup: Pick<CgroupPlan, 'v1' | 'v2'>): readonly string[] {
  const all = new Set(cgroup.v1.values())
  if (cgroup.v2 !== undefined) all.add(cgroup.v2)
  return [...all]
}

/**
 * Kills what is left in the cgroup and removes its directories. Idempotent.
 * @throws UnsupportedError when processes in it do not die within 10 seconds.
 */
export async function removeCgroup(directories: readonly string[]): Promise<void> {
  await Promise.all(directories.map((directory) => removeDirectory(directory)))
}

async function removeDirectory(directory: string): Promise<void> {
  const patience = 10_000
  const began = Date.now()
  for (let pause = 1; ; pause = Math.min(pause * 2, 100)) {
    try {
      await rmdir(directory)
      return
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException
      if (code === 'ENOENT') return
      if (code !== 'EBUSY') throw cause
      if (Date.now() - began > patience) {
        throw new UnsupportedError('removing a cgroup', `processes in ${directory} do not die`, { cause })
      }
    }
    await killMembers(directory)
    await delay(pause)
  }
}

async function killMembers(directory: string): Promise<void> {
  const members = await readFile(join(directory, 'cgroup.procs'), 'utf8').catch(() => '')
  for (const line of members.split('\n')) {
    // 0 stands for a process of another pid namespace; kill(0) would be this process group.
    if (Number(line) > 0) perform(kill(Number(line), SIGKILL, { tolerate: 'ESRCH' }))
  }
}

/** Path of the file that counts the kills of the out-of-memory killer, when memory is limited. */
export function oomCounterPath(cgroup: Pick<CgroupPlan, 'v1' | 'v2'>): string | undefined {
  const v1 = cgroup.v1.get('memory')
  if (v1 !== undefined) return join(v1, 'memory.oom_control')
  return cgroup.v2 === undefined ? undefined : join(cgroup.v2, 'memory.events')
}

/** Whether the text of that file tells of a kill. */
export function tellsOomKill(text: string): boolean {
  return /^oom_kill [1-9]/m.test(text)
}
