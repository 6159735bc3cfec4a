import type { Spec } from '../bundle/spec.ts'
import { mapsOnly } from '../linux/id-maps.ts'
import type { Host } from './host.ts'

/** An ordinary user that maps only its own group may not set groups: that could take away one that denies access. */
export function maySetGroups(spec: Spec, host: Pick<Host, 'uid' | 'gid'>): boolean {
  const { uidMappings = [], gidMappings = [] } = spec.linux ?? {}
  return host.uid === 0 || !mapsOnly(uidMappings, host.uid) || !mapsOnly(gidMappings, host.gid)
}
