import type { Spec } from '../bundle/spec.ts'
import { ownIdMaps } from '../linux/own-ids.ts'
import type { ContainerIds } from './container-root.ts'

/**
 * The config.json of an ordinary user, in a user namespace. The rules for devices are left out: the kernel lets
 * nobody make or open a device there that they could not open outside. Limits stay: the runtime
 * tells when the user has no cgroup for them.
 */
export function forOrdinaryUser(spec: Spec): Spec {
  const { devices: _, ...resources } = spec.linux?.resources ?? {}
  return { ...spec, linux: { ...spec.linux, resources } }
}

/** The ids with which an ordinary user sees its files; undefined for root, who sees the owners as they are. */
export function ownIds(): ContainerIds | undefined {
  return process.geteuid?.() === 0 ? undefined : ownIdMaps()
}
