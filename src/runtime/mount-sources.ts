import { isAbsolute, join } from 'node:path'
import type { IdMapping, Mount } from '../bundle/spec.ts'
import type { Linux } from '../bundle/spec-linux.ts'
import { InvalidArgumentError } from '../errors.ts'
import type { Call, CallOptions } from '../linux/call.ts'
import { AT_FDCWD, close, dup3, type Fd, O } from '../linux/calls/files.ts'
import { cloneTree, MOUNT_ATTR, MS, mountSetattr } from '../linux/calls/mounts.ts'
import { descriptor } from './descriptors.ts'
import type { Host } from './host.ts'
import type { MountOptions } from './mount-options.ts'
import type { NamespacePlan } from './namespaces.ts'

/** A user namespace that owners are mapped by: one that exists, or one to be made for its mappings. */
export type IdMapSource =
  | { readonly path: string }
  | { readonly uidMappings: readonly IdMapping[]; readonly gidMappings: readonly IdMapping[] }

/** What the sources of bind mounts depend on. */
export interface SourceContext {
  readonly bundle: string
  readonly linux: Linux
  readonly namespaces: NamespacePlan
  readonly host: Pick<Host, 'uid'>
}

/** Whether any of `mounts` may have a source for the monitor to open; then they are planned before it starts. */
export function mayNeedHost(mounts: readonly Mount[], namespaces: Pick<NamespacePlan, 'has'>): boolean {
  const asks = ({ uidMappings, gidMappings, options = [] }: Mount): boolean =>
    uidMappings !== undefined || gidMappings !== undefined || options.some((name) => /^r?(?:idmap|shared)$/.test(name))
  return namespaces.has('user') || mounts.some(asks)
}

/**
 * The sources of bind mounts. Most are opened by the container's first process. Those that take the rights of the
 * host are opened by the monitor, which hands them down: to map owners, to be a peer of the host's mount, to
 * reach a directory that is closed to the ids of a user namespace.
 */
export class MountSources {
  /** Made by the monitor before it makes the first process. */
  readonly monitor: Call[] = []
  /** What {@link MOUNT_ATTR.IDMAP} needs, from {@link descriptor.userNamespaces} on. */
  readonly idMaps: IdMapSource[] = []
  private readonly context: SourceContext
  private trees = 0

  constructor(context: SourceContext) {
    this.context = context
  }

  /** Where the source of a bind mount is on the host. */
  pathOf(mount: Mount): string {
    const given = mount.source ?? ''
    return isAbsolute(given) ? given : join(this.context.bundle, given)
  }

  /** Opens the source of a bind mount. */
  open(mount: Mount, options: MountOptions, why: CallOptions): { readonly tree: Fd; readonly calls: readonly Call[] } {
    const tree = cloneTree(AT_FDCWD, this.pathOf(mount), options.bind === 'rbind', why)
    const idMap = this.idMapOf(mount, options, why)
    if (!this.needsHost(options, idMap)) return { tree, calls: [tree] }
    const number = descriptor.trees + this.trees++
    const mapping = idMap === undefined ? [] : [this.mapOwners(tree, idMap, mount, options, why)]
    this.monitor.push(tree, ...mapping, dup3(tree, number, O.CLOEXEC, why), close(tree))
    return { tree: number, calls: [] }
  }

  /** Maps the owners of a mount that the first process has made; nothing when that is not asked for. */
  mapOwn(tree: Fd, mount: Mount, options: MountOptions, why: CallOptions): readonly Call[] {
    const idMap = this.idMapOf(mount, options, why)
    return idMap === undefined ? [] : [this.mapOwners(tree, idMap, mount, options, why)]
  }

  private needsHost(options: MountOptions, idMap: IdMapSource | undefined): boolean {
    const { namespaces, host, linux } = this.context
    if (idMap !== undefined) return true
    // As runc has it: mounts made inside come to the host only where the root says so, too.
    const isPeer =
      /^r?shared$/.test(linux.rootfsPropagation ?? '') && options.propagation.some(({ type }) => type === MS.SHARED)
    return host.uid === 0 && (isPeer || namespaces.has('user'))
  }

  private idMapOf(mount: Mount, options: MountOptions, why: CallOptions): IdMapSource | undefined {
    const { uidMappings = [], gidMappings = [] } = mount
    if (uidMappings.length > 0 && gidMappings.length > 0) return { uidMappings, gidMappings }
    if (uidMappings.length > 0 || gidMappings.length > 0) {
      throw new InvalidArgumentError(`${why.pointer}: uidMappings and gidMappings come in pairs`)
    }
    if (options.idmap === undefined) return undefined
    const { linux } = this.context
    const user = linux.namespaces?.find(({ type }) => type === 'user')
    if (user === undefined) {
      throw new InvalidArgumentError(`${why.pointer}: ${options.idmap} needs mappings, or a user namespace with some`)
    }
    if (user.path) return { path: user.path }
    return { uidMappings: linux.uidMappings ?? [], gidMappings: linux.gidMappings ?? [] }
  }

  private mapOwners(tree: Fd, idMap: IdMapSource, mount: Mount, options: MountOptions, why: CallOptions): Call {
    const userNamespace = this.userNamespace(idMap)
    const step = `map the owners of ${mount.destination}`
    const attributes = { set: MOUNT_ATTR.IDMAP, userNamespace }
    return {
      ...mountSetattr(tree, '', attributes, options.idmap === 'ridmap', { ...why, step }),
      path: this.pathOf(mount),
    }
  }

  /** Descriptor of a user namespace; equal ones are one. */
  private userNamespace(idMap: IdMapSource): number {
    const key = JSON.stringify(idMap)
    const known = this.idMaps.findIndex((each) => JSON.stringify(each) === key)
    if (known < 0) this.idMaps.push(idMap)
    return descriptor.userNamespaces + (known < 0 ? this.idMaps.length - 1 : known)
  }
}
