import type { Spec } from '../bundle/spec.ts'
import type { LinuxNamespaceType } from '../bundle/spec-linux.ts'
import { InvalidArgumentError, UnsupportedError } from '../errors.ts'
import { pointerToken } from '../internal/json.ts'
import { sysctlNamespace, sysctlPath } from '../internal/sysctl.ts'
import type { OverlayRootfs } from './overlay.ts'
import type { ProcWrite } from './procfs.ts'

/** What the container has a namespace of its own for, or shares with another container. */
type HasNamespace = (type: LinuxNamespaceType) => boolean

function namespacesOf(spec: Spec): HasNamespace {
  return (type) => spec.linux?.namespaces?.some((namespace) => namespace.type === type) ?? false
}

/**
 * Refuses what would change the host because the namespace it belongs to is missing. A valid config has none of
 * it but the last; createContainer does not rely on that.
 * @throws InvalidArgumentError, UnsupportedError naming the namespace that is needed.
 */
export function refuseHostChanges(spec: Spec, overlay: OverlayRootfs | undefined): void {
  const has = namespacesOf(spec)
  for (const name of ['hostname', 'domainname'] as const) {
    if ((spec[name] ?? '') !== '' && !has('uts')) {
      throw new InvalidArgumentError(`/${name} needs a uts namespace, or it would be the name of the host`)
    }
  }
  if (Object.keys(spec.linux?.netDevices ?? {}).length > 0 && !has('network')) {
    throw new InvalidArgumentError('/linux/netDevices needs a network namespace to move devices to')
  }
  const mounted = has('user') ? hostMounts(spec, overlay)[0] : undefined
  if (mounted !== undefined) {
    const reason = 'without a mount namespace it is mounted on the host, where a user namespace has no rights'
    throw new UnsupportedError(mounted, reason, { hint: 'Give the container a mount namespace.' })
  }
}

/** @throws UnsupportedError for a container that has nowhere to attach its root. */
export function refuseWithoutMounts(spec: Spec): void {
  if (namespacesOf(spec)('mount')) return
  throw new UnsupportedError('a mount as root', 'the container has no mount namespace to attach it in')
}

/** Whether mounts of the container are made on the host, for want of a mount namespace. */
export function mountsOnHost(spec: Spec, overlay: OverlayRootfs | undefined): boolean {
  return hostMounts(spec, overlay).length > 0
}

/** What asks for mounts on the host. */
function hostMounts(spec: Spec, overlay: OverlayRootfs | undefined): readonly string[] {
  if (namespacesOf(spec)('mount')) return []
  const needing = [
    [(spec.mounts ?? []).length > 0, '/mounts'],
    [spec.root?.readonly === true, '/root/readonly'],
    [overlay !== undefined, 'an overlay as root'],
    [(spec.linux?.maskedPaths ?? []).length > 0, '/linux/maskedPaths'],
    [(spec.linux?.readonlyPaths ?? []).length > 0, '/linux/readonlyPaths'],
  ] as const
  return needing.flatMap(([asked, what]) => (asked ? [what] : []))
}

/**
 * What sets `linux.sysctl`.
 * @throws InvalidArgumentError for a parameter of the host, naming the namespace that would be needed.
 */
export function sysctlWrites(spec: Spec): readonly ProcWrite[] {
  const has = namespacesOf(spec)
  return Object.entries(spec.linux?.sysctl ?? {}).map(([name, value]) => {
    const path = sysctlPath(name)
    const pointer = `/linux/sysctl${pointerToken(name)}`
    if (path === undefined) throw new InvalidArgumentError(`${pointer} is no name of a kernel parameter`)
    const type = sysctlNamespace(path)
    if (type === undefined) {
      throw new InvalidArgumentError(`${pointer} belongs to no namespace: it would change the host`)
    }
    if (!has(type)) {
      throw new InvalidArgumentError(`${pointer} needs a ${type} namespace, or it would change the host`)
    }
    return { path: `sys/${path}`, value, pointer, step: `set ${name}` }
  })
}
