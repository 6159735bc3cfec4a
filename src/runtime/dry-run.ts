import type { Spec } from '../bundle/spec.ts'
import { hostArchitecture } from '../linux/architecture.ts'
import type { Call } from '../linux/call.ts'
import { formatCalls } from '../linux/format.ts'
import { type Host, thisHost } from './host.ts'
import type { FoundTarget } from './masks.ts'
import type { OverlayRootfs } from './overlay.ts'
import { planContainer } from './plan.ts'
import { seccompProgram } from './seccomp.ts'

/** What is planned. */
export interface DryRunOptions {
  /** Absolute path of the bundle. */
  readonly bundle: string
  /** Default `container`. */
  readonly id?: string | undefined
  readonly overlay?: OverlayRootfs | undefined
  /** See `detach` of CreateOptions. */
  readonly detach?: boolean | undefined
  /** See `newKeyring` of CreateOptions. */
  readonly newKeyring?: boolean | undefined
  /** See `noPivot` of CreateOptions. */
  readonly noPivot?: boolean | undefined
  /** @internal What the plan depends on besides its arguments; tests give another. */
  readonly host?: Host | undefined
}

/** Calls that one process makes in one go. */
export interface PlannedBatch {
  /** Who makes them: the monitor, which clones the container's first process, or that process. */
  readonly process: 'monitor' | 'first process'
  /** The operation they are part of. */
  readonly operation: 'create' | 'start'
  readonly calls: readonly Call[]
}

/**
 * The system calls that create and start would make for `spec`, in order, without making one. What is
 * known only when they run is assumed: masked and read-only paths are there and are files, and the program
 * is at the first place where it is looked for.
 * @throws UnsupportedError, InvalidArgumentError as createContainer does.
 */
export function plan(spec: Spec, options: DryRunOptions): readonly PlannedBatch[] {
  const planned = planContainer({
    id: options.id ?? 'container',
    spec,
    bundle: options.bundle,
    overlay: options.overlay,
    filter: seccompProgram(spec.linux?.seccomp, hostArchitecture()),
    outlive: options.detach === true,
    newKeyring: options.newKeyring,
    noPivot: options.noPivot,
    host: options.host ?? thisHost(),
  })
  const found = planned.targets.map(
    (target, index): FoundTarget => ({ target, descriptor: 6 + index, isDirectory: false }),
  )
  const first = 'first process'
  const batches: readonly PlannedBatch[] = [
    { process: 'monitor', operation: 'create', calls: planned.monitor },
    { process: first, operation: 'create', calls: planned.setup },
    { process: first, operation: 'create', calls: planned.finish(found) },
  ]
  const program = planned.programs[0]
  if (planned.start === undefined || program === undefined) return batches
  return [...batches, { process: first, operation: 'start', calls: planned.start(program, 0) }]
}

/** Prints a plan as strace would: a call a line, under a line for each batch. */
export function formatPlan(batches: readonly PlannedBatch[]): string {
  const parts = batches.map(
    ({ process, operation, calls }) => `# ${operation}: ${process}\n${formatCalls(calls).join('\n')}\n`,
  )
  return parts.join('\n')
}
