import type { Spec } from '../bundle/spec.ts'
import { mayLoadPrograms } from './cgroups/delegation.ts'
import { v1MountPoint } from './cgroups/hierarchies.ts'
import { resourceWarnings } from './cgroups/resources.ts'
import type { Host } from './host.ts'
import { lacksMountLabel } from './labels.ts'
import type { Plan } from './plan.ts'
import { ungrantable } from './process.ts'

/** What `spec` asks for and this host does not give, one sentence each; none of it is a failure. */
export function warningsOf(spec: Spec, plan: Pick<Plan, 'namespaces' | 'isRootOnHost'>, host: Host): readonly string[] {
  const warnings: string[] = []
  if (plan.isRootOnHost) {
    warnings.push(
      'the container has no mount namespace: its mounts are made on the host, and the host has them until it is deleted',
    )
  }
  if (!plan.namespaces.has('user')) {
    for (const name of ungrantable(spec.process?.capabilities, host.capabilities)) {
      warnings.push(`${name} can't be granted: this process does not have it`)
    }
  }
  const { resources = {} } = spec.linux ?? {}
  warnings.push(...resourceWarnings(resources, host.hierarchies))
  const isV1 = v1MountPoint(host.hierarchies, 'devices') !== undefined
  if (resources.devices !== undefined && !isV1 && !mayLoadPrograms(host)) {
    warnings.push('linux.resources.devices has no effect: on cgroup v2 it takes a BPF program, which needs root')
  }
  if (lacksMountLabel(spec, host)) warnings.push('linux.mountLabel has no effect: SELinux is not active on this host')
  return warnings
}
