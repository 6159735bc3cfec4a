import type { Spec } from '../bundle/spec.ts'
import { v1MountPoint } from './cgroups/hierarchies.ts'
import { type Host, thisHost } from './host.ts'
import type { Plan } from './plan.ts'
import { ungrantable } from './process.ts'

/** What `spec` asks for and this host does not give, one sentence each; none of it is a failure. */
export function warningsOf(spec: Spec, plan: Pick<Plan, 'namespaces'>, host: Host = thisHost()): readonly string[] {
  const warnings: string[] = []
  if (!plan.namespaces.has('user')) {
    for (const name of ungrantable(spec.process?.capabilities, host.capabilities)) {
      warnings.push(`${name} can't be granted: this process does not have it`)
    }
  }
  // Version 2 has no file for them: a BPF program would have to be attached.
  if (spec.linux?.resources?.devices !== undefined && v1MountPoint(host.hierarchies, 'devices') === undefined) {
    warnings.push('linux.resources.devices has no effect: device rules on cgroup v2 are not implemented yet')
  }
  return warnings
}
