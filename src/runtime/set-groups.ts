import type { Spec } from '../bundle/spec.ts'
import { mapsOnly } from '../linux/id-maps.ts'
import type { Host } from './host.ts'

/**
 * Whether processes of a container may set groups. An ordinary user that maps only its own group may not: that could take
 * away one that denies access.
 * @param ownNamespace whether the container has a user namespace of its own
 */
export function maySetGroups(
  spec: Spec,
  host: Pick<Host, 'uid' | 'gid' | 'inUserNamespace' | 'read'>,
  ownNamespace: boolean,
): boolean {
  if (host.inUserNamespace && host.read('/proc/self/setgroups')?.trim() === 'deny') return false
  const { uidMappings = [], gidMappings = [] } = spec.linux ?? {}
  return !ownNamespace || host.uid === 0 || !mapsOnly(uidMappings, host.uid) || !mapsOnly(gidMappings, host.gid)
}
