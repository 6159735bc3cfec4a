import { isAbsolute, join, posix } from 'node:path'
import type { Mount } from '../bundle/spec.ts'
import { UnsupportedError } from '../errors.ts'
import type { Call, CallOptions } from '../linux/call.ts'
import { AT_FDCWD, close, mkdirat, O, openat2, RESOLVE } from '../linux/calls/files.ts'
import {
  attachMount,
  cloneTree,
  fsconfigCreate,
  fsconfigFlag,
  fsconfigString,
  fsmount,
  fsopen,
  mountSetattr,
} from '../linux/calls/mounts.ts'
import type { Hierarchies } from './cgroups/hierarchies.ts'
import { type MountOptions, parseMountOptions } from './mount-options.ts'
import { makeDirectoryInRoot, makeFileInRoot, openInRoot, openRealDirectory } from './paths.ts'

/** What mounts need to know of the host and the container. */
export interface MountContext {
  /** Descriptor of the container's root. */
  readonly root: number
  readonly bundle: string
  readonly hierarchies: Hierarchies
  /** Whether a path of the host is a directory; decides what a bind mount is put on. */
  isDirectory(path: string): boolean
}

/** The calls that make `mounts` inside the container's root, in order (runtime-spec, config.md, "Mounts"). */
export function mountCalls(mounts: readonly Mount[], context: MountContext): readonly Call[] {
  return mounts.flatMap((mount, index) => {
    const why: CallOptions = { step: `mount ${mount.destination}`, pointer: `/mounts/${index}` }
    const options = parseMountOptions(mount.options)
    if (options.data.includes('tmpcopyup') || mount.uidMappings !== undefined) {
      throw new UnsupportedError(`${why.pointer}`, 'idmapped mounts and tmpcopyup are not implemented yet')
    }
    if (mount.type === 'cgroup' || mount.type === 'cgroup2') return cgroupMount(mount, options, context, why)
    if (options.bind !== undefined || mount.type === 'bind') return bindMount(mount, options, context, why)
    return filesystemMount(mount, options, context, why)
  })
}

function bindMount(mount: Mount, options: MountOptions, context: MountContext, why: CallOptions): readonly Call[] {
  const given = mount.source ?? ''
  const source = isAbsolute(given) ? given : join(context.bundle, given)
  const tree = cloneTree(AT_FDCWD, source, options.bind === 'rbind', why)
  const made = context.isDirectory(source)
    ? makeDirectoryInRoot(context.root, mount.destination, why)
    : makeFileInRoot(context.root, mount.destination, why)
  return [tree, ...attributeCalls(tree, options, why), ...made, ...attach(tree, mount, context, why)]
}

function filesystemMount(
  mount: Mount,
  options: MountOptions,
  context: MountContext,
  why: CallOptions,
): readonly Call[] {
  const type = mount.type ?? 'none'
  const parameters = [...options.data]
  if (mount.source !== undefined) parameters.unshift(`source=${mount.source}`)
  const { calls, tree } = newFilesystem(type, parameters, options.set, why)
  const made = makeDirectoryInRoot(context.root, mount.destination, why)
  const rest: MountOptions = { ...options, set: 0, clear: 0 }
  return [...calls, ...attributeCalls(tree, rest, why), ...made, ...attach(tree, mount, context, why)]
}

/** A new, detached instance of a filesystem. Parameters are `key=value` or flags. */
export function newFilesystem(
  type: string,
  parameters: readonly string[],
  attributes: number,
  why: CallOptions,
): { readonly calls: readonly Call[]; readonly tree: Call } {
  const context = fsopen(type, why)
  const configured = parameters.map((parameter) => {
    const at = parameter.indexOf('=')
    if (at < 0) return fsconfigFlag(context, parameter, why)
    return fsconfigString(context, parameter.slice(0, at), parameter.slice(at + 1), why)
  })
  const tree = fsmount(context, attributes, why)
  return { calls: [context, ...configured, fsconfigCreate(context, why), tree, close(context)], tree }
}

/**
 * The cgroup view of the container: version 2 as it is; for version 1 or hybrid hosts a directory with
 * one mount for each hierarchy, all of them seen from the container's cgroup namespace.
 */
function cgroupMount(mount: Mount, options: MountOptions, context: MountContext, why: CallOptions): readonly Call[] {
  const { v1, v2 } = context.hierarchies
  const made = makeDirectoryInRoot(context.root, mount.destination, why)
  if (v1.length === 0) {
    const { calls, tree } = newFilesystem('cgroup2', ['source=cgroup'], options.set, why)
    return [...calls, ...made, ...attach(tree, mount, context, why)]
  }
  const directory = newFilesystem('tmpfs', ['source=cgroup', 'mode=755', 'size=64k'], 0, why)
  const calls: Call[] = [...directory.calls, ...made]
  calls.push(...attach(directory.tree, mount, context, why, true))
  for (const { controllers } of v1) {
    const name = controllers.join(',').replace(/^name=/, '')
    const parameters = controllers[0]?.startsWith('name=') === true ? ['none', ...controllers] : controllers
    calls.push(...cgroupHierarchy(directory.tree, name, 'cgroup', ['source=cgroup', ...parameters], options, why))
  }
  if (v2 !== undefined) {
    calls.push(...cgroupHierarchy(directory.tree, 'unified', 'cgroup2', ['source=cgroup'], options, why))
  }
  calls.push(mountSetattr(directory.tree, '', { set: options.set }, false, why), close(directory.tree))
  return calls
}

function cgroupHierarchy(
  directory: Call,
  name: string,
  type: string,
  parameters: readonly string[],
  options: MountOptions,
  why: CallOptions,
): readonly Call[] {
  const { calls, tree } = newFilesystem(type, parameters, options.set, why)
  const target = openat2(directory, name, { flags: O.PATH, resolve: RESOLVE.NO_SYMLINKS }, why)
  return [
    ...calls,
    mkdirat(directory, name, 0o755, why),
    target,
    attachMount(tree, target, why),
    close(target),
    close(tree),
  ]
}

function attributeCalls(tree: Call, options: MountOptions, why: CallOptions): readonly Call[] {
  const calls: Call[] = []
  if (options.set !== 0 || options.clear !== 0) {
    calls.push(mountSetattr(tree, '', { set: options.set, clear: options.clear }, false, why))
  }
  if (options.recursiveSet !== 0 || options.recursiveClear !== 0) {
    calls.push(mountSetattr(tree, '', { set: options.recursiveSet, clear: options.recursiveClear }, true, why))
  }
  const { propagation } = options
  if (propagation !== undefined) {
    calls.push(mountSetattr(tree, '', { propagation: propagation.type }, propagation.recursive, why))
  }
  return calls
}

/** Puts a detached mount on its destination. */
function attach(tree: Call, mount: Mount, context: MountContext, why: CallOptions, keepOpen = false): readonly Call[] {
  const kernel = ['proc', 'sysfs'].includes(mount.type ?? '') || posix.normalize(mount.destination) === '/dev'
  const open = kernel ? openRealDirectory : openInRoot
  const target = open(context.root, mount.destination, why)
  const calls = [target, attachMount(tree, target, why), close(target)]
  return keepOpen ? calls : [...calls, close(tree)]
}
