import type { Spec } from '../../bundle/spec.ts'
import type { Host } from '../host.ts'
import { hostUid } from '../host-uid.ts'

/** Whether the container can write to cgroups: then it is in one of its own in every hierarchy. */
export function hasWritableCgroup(spec: Spec): boolean {
  const mounts = spec.mounts?.filter(({ type }) => type === 'cgroup' || type === 'cgroup2') ?? []
  return mounts.some(({ options = [] }) => options.findLast((option) => option === 'ro' || option === 'rw') !== 'ro')
}

/**
 * Host uid that is to own the container's cgroup (config-linux.md, "Cgroup ownership"): only on version 2, in a
 * cgroup namespace of the container's own, with a cgroup mount that is not read-only.
 */
export function cgroupOwner(spec: Spec, host: Pick<Host, 'hierarchies' | 'uid'>): number | undefined {
  if (host.hierarchies.v1.length > 0 || !hasWritableCgroup(spec)) return undefined
  const isNew = spec.linux?.namespaces?.some(({ type, path }) => type === 'cgroup' && path === undefined) === true
  const uid = isNew ? hostUid(spec) : undefined
  return uid === host.uid ? undefined : uid
}
