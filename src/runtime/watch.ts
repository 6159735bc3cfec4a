import { join } from 'node:path'
import { lastOf } from '../internal/lazy.ts'
import { type CgroupPlan, directoriesOf, oomCounterPath } from './cgroups/plan.ts'
import type { IntelRdtPlan } from './intel-rdt.ts'
import { planWatch, type Watch } from './monitor.ts'
import type { PlanOptions } from './plan.ts'
import type { RootMount } from './root-mount.ts'

/** What is known of a container when it is there. */
export interface Watched {
  readonly stateRoot: string
  /** Its first process. */
  readonly pid: number
  readonly rootMount: RootMount | undefined
}

/** Plans the monitor's wait for the end of a container; for the next one of the same plan it is the same. */
export function watchesOf(
  { id, outlive, handOver, parked }: PlanOptions,
  { cgroup, intelRdt }: { readonly cgroup: CgroupPlan; readonly intelRdt: IntelRdtPlan },
): (of: Watched) => Watch {
  const ofSystemd = cgroup.placement !== undefined
  return lastOf(
    ({ stateRoot, pid, rootMount }) => `${parked === true ? pid : ''} ${JSON.stringify(rootMount)} ${stateRoot}`,
    ({ stateRoot, pid, rootMount }) =>
      planWatch({
        outlive,
        oomCounter: oomCounterPath(cgroup),
        // Whatever systemd does to a unit at that moment would fail if its cgroup went.
        cgroups: directoriesOf(ofSystemd ? { ...cgroup, v2: undefined } : cgroup),
        ofSystemd,
        resctrl: intelRdt.directories,
        directory: join(stateRoot, id),
        handedOver: handOver === true,
        keepsMountsOf: parked === true ? pid : undefined,
        rootMount,
      }),
  )
}
