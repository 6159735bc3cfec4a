import { resolve } from 'node:path'
import { filled } from '../linux/call.ts'
import { type CgroupPlan, oomCounterPath } from './cgroups/plan.ts'
import type { CreateOptions } from './create.ts'
import { outlives } from './exec.ts'
import { thisHost } from './host.ts'
import type { ContainerRecord } from './state-directory.ts'

/** Absolute path of the root filesystem that a config names. */
export function rootfsOf({ bundle, spec }: Pick<CreateOptions, 'bundle' | 'spec'>): string {
  return resolve(bundle, spec.root?.path ?? 'rootfs')
}

/** What is recorded of a container by what it is made with, however it is made. */
export function firstRecord(
  options: Pick<CreateOptions, 'id' | 'spec' | 'bundle' | 'detach' | 'handOver'>,
): Omit<ContainerRecord, 'pid' | 'startTime' | 'started' | 'cgroups'> {
  const { id, spec, bundle, handOver } = options
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
  }
}

/** What is recorded of a container that is made by a plan. */
export function plannedRecord(
  options: Parameters<typeof firstRecord>[0],
  cgroup: CgroupPlan,
  { resctrl = [], ...of }: Pick<ContainerRecord, 'pid' | 'startTime' | 'cgroups' | 'rootMount' | 'resctrl'>,
): ContainerRecord {
  const scope = cgroup.placement?.scope
  const oomCounter = oomCounterPath(cgroup)
  return {
    ...firstRecord(options),
    ...of,
    started: false,
    ...(scope === undefined ? {} : { scope: { unit: scope.unit, isUser: scope.isUser } }),
    ...(resctrl.length === 0 ? {} : { resctrl }),
    ...(oomCounter === undefined ? {} : { oomCounter: filled(oomCounter, options.id) }),
  }
}
