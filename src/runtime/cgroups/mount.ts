import { join, posix } from 'node:path'
import type { Call, CallOptions } from '../../linux/call.ts'
import { AT_FDCWD, close, mkdirat, symlinkat } from '../../linux/calls/files.ts'
import { attachMountIn, cloneTree, mountSetattr } from '../../linux/calls/mounts.ts'
import { newFilesystem } from '../filesystem.ts'
import type { Host } from '../host.ts'
import type { Hierarchy } from './hierarchies.ts'
import type { CgroupPlan } from './plan.ts'

/** What the view of cgroups depends on. */
export interface CgroupView {
  readonly host: Pick<Host, 'hierarchies' | 'read'>
  /** Directories of the container's own cgroup. */
  readonly cgroup: Pick<CgroupPlan, 'v1' | 'v2'>
  /** Whether the container has a cgroup namespace of its own; else it sees its own cgroup alone, as a bind mount. */
  readonly namespace: boolean
}

/** Mounts that are attached nowhere: the first one goes on the destination, the others into it, by name. */
export interface CgroupMounts {
  readonly calls: readonly Call[]
  readonly tree: Call
  /** To be made when the first one is in its place. */
  readonly inside: readonly Call[]
}

/**
 * The cgroup view of the container: version 2 as it is; for version 1 or hybrid hosts a directory with
 * one mount for each hierarchy.
 * @param attributes bits of MOUNT_ATTR
 */
export function cgroupMounts(view: CgroupView, attributes: number, why: CallOptions): CgroupMounts {
  const { v1, v2 } = view.host.hierarchies
  if (v1.length === 0) {
    const { calls, tree } = v2 === undefined ? cgroup2(attributes, why) : unified(v2, view, attributes, why)
    return { calls, tree, inside: [] }
  }
  const directory = newFilesystem('tmpfs', ['source=cgroup', 'mode=755', 'size=64k'], 0, why)
  const inside: Call[] = []
  for (const hierarchy of v1) {
    const name = hierarchy.controllers.join(',').replace(/^name=/, '')
    inside.push(...put(directory.tree, name, legacy(hierarchy, view, attributes, why), why))
    if (hierarchy.controllers.length > 1) {
      inside.push(...hierarchy.controllers.map((controller) => symlinkat(name, directory.tree, controller, why)))
    }
  }
  if (v2 !== undefined) inside.push(...put(directory.tree, 'unified', unified(v2, view, attributes, why), why))
  inside.push(mountSetattr(directory.tree, '', { set: attributes }, false, why))
  return { ...directory, inside }
}

interface Detached {
  readonly calls: readonly Call[]
  readonly tree: Call
}

function cgroup2(attributes: number, why: CallOptions): Detached {
  return newFilesystem('cgroup2', ['source=cgroup'], attributes, why)
}

function unified(hierarchy: Hierarchy, view: CgroupView, attributes: number, why: CallOptions): Detached {
  if (view.namespace) return cgroup2(attributes, why)
  return bound(view.cgroup.v2 ?? ownDirectory(hierarchy, view), attributes, why)
}

function legacy(hierarchy: Hierarchy, view: CgroupView, attributes: number, why: CallOptions): Detached {
  const { controllers } = hierarchy
  if (view.namespace) {
    const parameters = controllers[0]?.startsWith('name=') === true ? ['none', ...controllers] : controllers
    return newFilesystem('cgroup', ['source=cgroup', ...parameters], attributes, why)
  }
  const own = controllers.map((controller) => view.cgroup.v1.get(controller)).find((path) => path !== undefined)
  return bound(own ?? ownDirectory(hierarchy, view), attributes, why)
}

function bound(directory: string, attributes: number, why: CallOptions): Detached {
  const tree = cloneTree(AT_FDCWD, directory, false, why)
  return { calls: [tree, mountSetattr(tree, '', { set: attributes }, false, why)], tree }
}

/** The directory of the cgroup that this process is in, and so the container where it has none of its own. */
function ownDirectory({ mountPoint, controllers }: Hierarchy, { host }: CgroupView): string {
  for (const line of (host.read('/proc/self/cgroup') ?? '').split('\n')) {
    const [, names, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? []
    if (path !== undefined && names === controllers.join(',')) return join(mountPoint, posix.normalize(path))
  }
  return mountPoint
}

function put(directory: Call, name: string, { calls, tree }: Detached, why: CallOptions): readonly Call[] {
  return [...calls, mkdirat(directory, name, 0o755, why), attachMountIn(tree, directory, name, why), close(tree)]
}
