import type { IdMapping, Spec } from '../bundle/spec.ts'

/** Uid of the host that the container's program has; undefined for one that is not mapped. */
export function hostUid({ process, linux }: Spec): number | undefined {
  const uid = process?.user?.uid ?? 0
  const maps: readonly IdMapping[] = linux?.uidMappings ?? []
  if (maps.length === 0) return uid
  const map = maps.find((each) => uid >= each.containerID && uid < each.containerID + each.size)
  return map === undefined ? undefined : map.hostID + uid - map.containerID
}
