import { UnsupportedError } from '../errors.ts'
import { portableCapability, rootedCapability } from '../layer/diff/xattrs.ts'
import type { IdMap, IdMaps } from '../linux/id-maps.ts'
import type { OwnerMap } from './copy-tree.ts'

/** Gives what belongs to an id of a container to the id of the host that it stands for. */
export function ownersOnHost(ids: IdMaps): OwnerMap {
  const owners = translation(ids)
  return { ...owners, xattr: (xattr) => rootedCapability(xattr, () => owners.uid(0)) }
}

/** The way back. */
export function ownersInside({ uidMappings = [], gidMappings = [] }: IdMaps): OwnerMap {
  const back = { uidMappings: uidMappings.map(reverse), gidMappings: gidMappings.map(reverse) }
  return { ...translation(back), xattr: portableCapability }
}

function translation({ uidMappings = [], gidMappings = [] }: IdMaps): Pick<OwnerMap, 'uid' | 'gid'> {
  return {
    uid: (id) => translated(id, uidMappings, 'user'),
    gid: (id) => translated(id, gidMappings, 'group'),
  }
}

function reverse({ containerID, hostID, size }: IdMap): IdMap {
  return { containerID: hostID, hostID: containerID, size }
}

function translated(id: number, maps: readonly IdMap[], kind: string): number {
  const map = maps.find(({ containerID, size }) => id >= containerID && id < containerID + size)
  if (map !== undefined) return map.hostID + id - map.containerID
  throw new UnsupportedError(
    'copying files into a user namespace',
    `it has no ${kind} ${id}, whom one of them belongs to`,
    {
      hint: 'Give the user namespace more ids.',
    },
  )
}
