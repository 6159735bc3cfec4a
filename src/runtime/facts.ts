import { resolve } from 'node:path'
import { filled } from '../linux/call.ts'
import { type CgroupPlan, oomCounterPath } from './cgroups/plan.ts'
import type { CreateOptions } from './create.ts'
import { outlives } from './exec.ts'
import { thisHost } from './host.ts'
import type { ContainerFacts } from './state-directory.ts'

/** Absolute path of the root filesystem that a config names. */
export function rootfsOf({ bundle, spec }: Pick<CreateOptions, 'bundle' | 'spec'>): string {
  return resolve(bundle, spec.root?.path ?? 'rootfs')
}

/** What is recorded of a container that is made by a plan. */
export function plannedFacts(
  options: Pick<CreateOptions, 'id' | 'spec' | 'bundle' | 'detach' | 'handOver'>,
  cgroup: CgroupPlan,
  { resctrl = [], ...of }: Pick<ContainerFacts, 'cgroups' | 'rootMount' | 'resctrl'>,
): ContainerFacts {
  const { id, spec, bundle, handOver } = options
  const scope = cgroup.placement?.scope
  const oomCounter = oomCounterPath(cgroup)
  return {
    ociVersion: spec.ociVersion,
    id,
    bundle,
    rootfs: rootfsOf(options),
    owner: thisHost().uid,
    annotations: spec.annotations,
    outlive: outlives(options),
    ...(handOver === true ? { handedOver: true } : {}),
    created: Date.now(),
    ...of,
    ...(scope === undefined ? {} : { scope: { unit: scope.unit, isUser: scope.isUser } }),
    ...(resctrl.length === 0 ? {} : { resctrl }),
    ...(oomCounter === undefined ? {} : { oomCounter: filled(oomCounter, id) }),
  }
}
