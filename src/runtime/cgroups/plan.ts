import { join } from 'node:path'
import type { LinuxResources } from '../../bundle/spec-resources.ts'
import { UnsupportedError } from '../../errors.ts'
import type { Call } from '../../linux/call.ts'
import { close, O, O_DIRECTORY, write } from '../../linux/calls/files.ts'
import type { Results } from '../../linux/runner.ts'
import type { Host } from '../host.ts'
import { limitProperties } from '../systemd/limits.ts'
import type { Property } from '../systemd/manager.ts'
import type { Scope } from '../systemd/scope.ts'
import { delegatedBase, isHostRoot, mayLoadPrograms } from './delegation.ts'
import {
  deviceProgramCalls,
  enterCalls,
  handDown,
  inheritCpuset,
  openAs,
  ownershipCalls,
  settingCalls,
} from './files.ts'
import { type Hierarchy, v1MountPoint } from './hierarchies.ts'
import { cgroupPath, defaultName, makeDirectories, refuseMembers } from './path.ts'
import { planResources, type ResourcePlan } from './resources.ts'
import type { CgroupSetting } from './setting.ts'

/** Directories of a container's cgroup, one per hierarchy that it is in. */
export interface CgroupPlan {
  /** Version 1: controller -> directory. */
  readonly v1: ReadonlyMap<string, string>
  /** Version 2: the directory. */
  readonly v2: string | undefined
  /** Version 2: the controllers that it has. */
  readonly v2Controllers: readonly string[]
  /** Makes the directories, sets the limits, and opens what {@link join} writes to. */
  readonly create: readonly Call[]
  /** Puts the calling process in; to be made by the container's first process. */
  readonly join: readonly Call[]
  /** Sets the limits that the first process could not be born under; to be made when it is there. */
  readonly late: readonly Call[]
  /** What is done when a service manager makes the cgroup, once the first process is there and waits. */
  readonly placement?: Placement | undefined
  /** Number of the descriptor of the version 2 directory, for clone3(CLONE_INTO_CGROUP). */
  readonly v2Descriptor: number | undefined
  /** Looks at what {@link create} gave, if there is anything to see. @throws UnsupportedError for a limit that has no file. */
  readonly verify?: ((results: Results) => void) | undefined
}

/** How the first process gets into a cgroup that systemd makes. */
export interface Placement {
  readonly scope: Scope
  /** What systemd is told of the limits: it would set others when it looks again. */
  readonly properties: readonly Property[]
  /** To be made by the monitor when the unit is there: sets every limit, and joins what systemd does not manage. */
  calls(pid: number): readonly Call[]
}

/** What decides where a cgroup goes. */
export interface CgroupOptions {
  readonly id: string
  /** `linux.cgroupsPath`: absolute below the mount points, or relative; default `oci-ts-<id>`. */
  readonly path?: string | undefined
  readonly resources?: LinuxResources | undefined
  /** Whether every hierarchy is joined, also those without a limit: they then count what the container uses. */
  readonly accounting?: boolean | undefined
  /** The unit that systemd makes the cgroup for; it decides on the path then. */
  readonly scope?: Scope | undefined
  /** Host uid that gets the version 2 cgroup, to make cgroups of its own in it. */
  readonly owner?: number | undefined
  readonly host: Pick<Host, 'hierarchies' | 'read' | 'writable' | 'uid' | 'inUserNamespace' | 'capabilities'>
  /** First of the descriptor numbers that may be used. */
  readonly firstDescriptor: number
}

/**
 * Plans the cgroup of a container. It is in the version 2 hierarchy always, where there is one: there it can be
 * frozen, killed and counted. Of those of version 1 only the ones whose controllers have a limit are
 * joined, for each costs time; without version 2 also the freezer.
 * @throws UnsupportedError when no hierarchy has a controller that is needed.
 */
export function planCgroup(options: CgroupOptions): CgroupPlan {
  return new Planner(options).plan()
}

/** The plan of a container that stays in the cgroup of its maker. */
export const noCgroup: CgroupPlan = {
  v1: new Map(),
  v2: undefined,
  v2Controllers: [],
  create: [],
  join: [],
  late: [],
  v2Descriptor: undefined,
}

/** Controllers of version 2 that count something. */
const counting: readonly string[] = ['cpu', 'memory', 'io', 'pids', 'hugetlb', 'rdma', 'misc']

/** Controllers of version 2 that systemd hands down for `Delegate=yes`. */
const managed: readonly string[] = ['cpu', 'cpuset', 'io', 'memory', 'pids']

/** Those that a cgroup can hand down: all that it has, but where processes are in it only what it does already. */
function countable(host: Pick<Host, 'read' | 'uid' | 'inUserNamespace'>, directory: string): readonly string[] {
  const { read } = host
  const isFree = isHostRoot(host) || (read(join(directory, 'cgroup.procs')) ?? '') === ''
  const given = read(join(directory, isFree ? 'cgroup.controllers' : 'cgroup.subtree_control')) ?? ''
  return given
    .trim()
    .split(' ')
    .filter((name) => counting.includes(name))
}

function controllersIn({ read }: Pick<Host, 'read'>, directory: string): readonly string[] {
  return (read(join(directory, 'cgroup.controllers')) ?? '').trim().split(' ')
}

interface PlannedV2 {
  readonly directory: string
  readonly descriptor: number
  readonly controllers: readonly string[]
}

class Planner {
  private readonly options: CgroupOptions
  private readonly resources: ResourcePlan
  private readonly v1 = new Map<string, string>()
  private readonly create: Call[] = []
  private readonly join: Call[] = []
  private readonly late: Call[] = []
  /** Version 1: files that the first process's pid is written to, where it does not join itself. */
  private readonly entrances: string[] = []
  /** For each set of alternative files the calls that open them, and one of the settings. */
  private readonly alternatives = new Map<string, { readonly setting: CgroupSetting; readonly opened: Call[] }>()
  private descriptor: number

  constructor(options: CgroupOptions) {
    this.options = options
    this.descriptor = options.firstDescriptor
    this.resources = planResources(options.resources ?? {}, options.host.hierarchies)
  }

  plan(): CgroupPlan {
    const { create, v1, alternatives } = this
    const { scope } = this.options
    const v2 = scope === undefined ? this.planV2() : this.planScopeInV2(scope)
    this.planV1(v2 !== undefined)
    return {
      v1,
      v2: v2?.directory,
      v2Controllers: v2?.controllers ?? [],
      ...(scope === undefined
        ? { create, join: this.join, late: this.late, v2Descriptor: v2?.descriptor }
        : { create: [], join: [], late: [], v2Descriptor: undefined, placement: this.placement(scope) }),
      verify: alternatives.size === 0 ? undefined : (results) => this.verify(results),
    }
  }

  private verify(results: Results): void {
    for (const { setting, opened } of this.alternatives.values()) {
      if (opened.some((call) => results.value(call) >= 0)) continue
      throw new UnsupportedError(setting.pointer, `this kernel has no file like ${setting.file}`)
    }
  }

  private placement(scope: Scope): Placement {
    const { create, late, entrances, resources } = this
    return {
      scope,
      properties: limitProperties(resources, scope.version),
      calls: (pid) => [...create, ...entrances.flatMap((path) => enterCalls(path, pid)), ...late],
    }
  }

  /** Systemd makes the directory, and hands down the controllers that it knows. */
  private planScopeInV2(scope: Scope): PlannedV2 | undefined {
    const { options, resources } = this
    const { host } = options
    const mountPoint = host.hierarchies.v2?.mountPoint
    const available = mountPoint === undefined ? [] : controllersIn(host, mountPoint)
    const needed = this.controllersOfV2(() => available)
    if (mountPoint === undefined) return undefined
    const directory = join(mountPoint, scope.path)
    refuseMembers(host, directory)
    // On a hybrid host it may leave the tree alone.
    if (isHostRoot(host)) this.create.push(...makeDirectories(mountPoint, scope.path))
    const others = needed.filter((controller) => !managed.includes(controller))
    this.create.push(...handDown(host, mountPoint, scope.path, others))
    this.setAll(resources.v2, () => directory)
    const descriptor = this.descriptor++
    if (resources.devices !== undefined && mayLoadPrograms(host)) {
      this.create.push(...openAs(directory, O.RDONLY | O_DIRECTORY, descriptor))
      this.create.push(...deviceProgramCalls(resources.devices, descriptor, this.descriptor++), close(descriptor))
    }
    if (options.owner !== undefined) this.create.push(...ownershipCalls(host, directory, options.owner))
    if (isHostRoot(host)) this.entrances.push(join(directory, 'cgroup.procs'))
    const counted = available.filter((controller) => managed.includes(controller) && counting.includes(controller))
    return { directory, descriptor, controllers: [...new Set([...needed, ...counted])] }
  }

  private planV1(isInV2: boolean): void {
    const { hierarchies, read } = this.options.host
    const wanted = new Set(this.resources.v1.map(({ controller }) => controller))
    const { scope } = this.options
    const path = scope?.path ?? cgroupPath(this.options.path ?? `/${defaultName(this.options.id)}`, '/')
    for (const hierarchy of hierarchies.v1) {
      if (!hierarchy.controllers.some((name) => wanted.has(name) || this.isJoinedAnyway(name, isInV2))) continue
      this.joinV1(hierarchy, path, read)
    }
    this.setAll(this.resources.v1, ({ controller }) => this.v1.get(controller) as string)
  }

  private isJoinedAnyway(controller: string, isInV2: boolean): boolean {
    // Those without a controller as well: the manager of services tells by them whose the processes are.
    const mayCount = this.options.accounting === true && isHostRoot(this.options.host)
    return mayCount || (!isInV2 && controller === 'freezer' && this.mayUseFreezer())
  }

  private mayUseFreezer(): boolean {
    const { host } = this.options
    return host.writable(v1MountPoint(host.hierarchies, 'freezer') as string)
  }

  private joinV1({ mountPoint, controllers }: Hierarchy, path: string, read: Host['read']): void {
    const directory = join(mountPoint, path)
    for (const controller of controllers) this.v1.set(controller, directory)
    refuseMembers({ read }, directory)
    this.create.push(...makeDirectories(mountPoint, path))
    if (controllers.includes('cpuset')) {
      this.create.push(...inheritCpuset({ read }, mountPoint, path, this.options.resources ?? {}))
    }
    if (this.options.scope !== undefined) {
      this.entrances.push(join(directory, 'cgroup.procs'))
      return
    }
    const descriptor = this.descriptor++
    // A single thread that moves itself through `tasks` need not wait for the lock of all process
    // groups (kernel/cgroup/cgroup.c, cgroup_procs_write_start): 0.03 ms instead of an RCU grace period.
    this.create.push(...openAs(join(directory, 'tasks'), O.WRONLY, descriptor))
    this.join.push(write(descriptor, '0', { step: `join the ${controllers[0]} cgroup` }), close(descriptor))
  }

  private planV2(): PlannedV2 | undefined {
    const { options, resources } = this
    const { host } = options
    const mountPoint = host.hierarchies.v2?.mountPoint
    const needed = this.controllersOfV2(() => (mountPoint === undefined ? [] : controllersIn(host, mountPoint)))
    if (mountPoint === undefined) return undefined
    const base = delegatedBase(host, mountPoint, needed)
    const counted = options.accounting === true && base !== undefined ? countable(host, join(mountPoint, base)) : []
    const controllers = [...new Set([...needed, ...counted])]
    const isNeeded = resources.v2.length > 0
    // Nobody asked for it: it is for the verbs that come later, where it can be had.
    if (!isNeeded && (base === undefined || !host.writable(join(mountPoint, base)))) return undefined
    const path = cgroupPath(options.path ?? defaultName(options.id), base ?? '/')
    const directory = join(mountPoint, path)
    refuseMembers(host, directory)
    this.create.push(...makeDirectories(mountPoint, path), ...handDown(host, mountPoint, path, controllers))
    this.setAll(resources.v2, () => directory)
    const descriptor = this.descriptor++
    this.create.push(...openAs(directory, O.RDONLY | O_DIRECTORY, descriptor))
    if (resources.devices !== undefined && mayLoadPrograms(host)) {
      this.create.push(...deviceProgramCalls(resources.devices, descriptor, this.descriptor++))
    }
    if (options.owner !== undefined) this.create.push(...ownershipCalls(host, directory, options.owner))
    this.join.push(close(descriptor))
    return { directory, descriptor, controllers }
  }

  /** The controllers that the cgroup needs of version 2. @throws UnsupportedError when one is not there. */
  private controllersOfV2(look: () => readonly string[]): readonly string[] {
    const settings = this.resources.v2.filter(({ controller }) => controller !== 'cgroup')
    if (settings.length === 0) return []
    const available = look()
    const missing = settings.find(({ controller }) => !available.includes(controller))
    if (missing !== undefined) {
      throw new UnsupportedError(`the limit ${missing.pointer}`, 'this host has no cgroup controller for it', {
        hint: `Mount the cgroup hierarchy of the controller ${missing.controller}, or leave the limit out.`,
      })
    }
    return [...new Set(settings.map(({ controller }) => controller))]
  }

  private setAll(settings: readonly CgroupSetting[], directoryOf: (setting: CgroupSetting) => string): void {
    for (const same of byFile(settings)) {
      const [first] = same
      const calls = settingCalls(directoryOf(first), same)
      ;(first.late === true ? this.late : this.create).push(...calls)
      if (first.either === undefined) continue
      const set = this.alternatives.get(first.either)
      if (set === undefined) this.alternatives.set(first.either, { setting: first, opened: [calls[0] as Call] })
      else set.opened.push(calls[0] as Call)
    }
  }
}

/** Settings that stand one behind the other and are of one file, as those of devices are. */
function byFile(settings: readonly CgroupSetting[]): readonly (readonly [CgroupSetting, ...CgroupSetting[]])[] {
  const runs: [CgroupSetting, ...CgroupSetting[]][] = []
  for (const setting of settings) {
    const run = runs.at(-1)
    if (run !== undefined && isOfSameFile(run[0], setting)) run.push(setting)
    else runs.push([setting])
  }
  return runs
}

function isOfSameFile(a: CgroupSetting, b: CgroupSetting): boolean {
  return a.file === b.file && a.controller === b.controller && a.either === b.either && a.late === b.late
}

/** Every directory of a cgroup, the one of version 2 first. */
export function directoriesOf(cgroup: Pick<CgroupPlan, 'v1' | 'v2'>): readonly string[] {
  return [...new Set([...(cgroup.v2 === undefined ? [] : [cgroup.v2]), ...cgroup.v1.values()])]
}

/** Path of the file that counts the kills of the out-of-memory killer, when memory is limited. */
export function oomCounterPath(cgroup: Pick<CgroupPlan, 'v1' | 'v2' | 'v2Controllers'>): string | undefined {
  const v1 = cgroup.v1.get('memory')
  if (v1 !== undefined) return join(v1, 'memory.oom_control')
  return cgroup.v2Controllers.includes('memory') ? join(cgroup.v2 ?? '', 'memory.events') : undefined
}

/** Whether the text of that file tells of a kill. */
export function tellsOomKill(text: string): boolean {
  return /^oom_kill [1-9]/m.test(text)
}
