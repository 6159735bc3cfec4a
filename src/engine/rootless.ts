import type { Spec } from '../bundle/spec.ts'

/**
 * The config.json of an ordinary user, in a user namespace. The rules for devices are left out: the kernel lets
 * nobody make or open a device there that they could not open outside. Limits stay: the runtime
 * tells when the user has no cgroup for them.
 */
export function forOrdinaryUser(spec: Spec): Spec {
  const { devices: _, ...resources } = spec.linux?.resources ?? {}
  return { ...spec, linux: { ...spec.linux, resources } }
}
