import type { Spec } from '../bundle/spec.ts'
import type { Channel } from '../linux/remote/channel.ts'
import type { Remote } from '../linux/remote/remote.ts'
import type { Descriptors } from '../linux/remote/spawn.ts'
import type { Results } from '../linux/runner.ts'
import type { HookFunctions } from './hooks.ts'
import type { Watch } from './monitor.ts'
import type { Plan } from './plan.ts'
import type { ContainerRecord, StateDirectory } from './state-directory.ts'
import type { FilterServer } from './syscalls/filter-server.ts'
import type { Supervision } from './syscalls/supervision.ts'
import type { Terminal } from './terminal.ts'

/** What `create` hands over. */
export interface ContainerParts {
  readonly record: ContainerRecord
  readonly spec: Spec
  readonly directory: StateDirectory
  readonly plan: Plan
  readonly program: string
  readonly monitor: Remote
  /**
   * The wait that the monitor was given with its first batch, if it was, and its answer when the container has ended. It has
   * kept the socket of the first process then.
   */
  readonly watching: { readonly watch: Watch; readonly ended: Promise<Results> } | undefined
  /**
   * What the monitor was made with, when it can be another's afterwards; without the socket of the first process when it keeps
   * that.
   */
  readonly lent: Descriptors | undefined
  readonly init: Channel
  /** Descriptor that stands for the first process, where there is one already. */
  readonly pidfd: number | undefined
  readonly terminal: Terminal | undefined
  readonly hooks: HookFunctions | undefined
  readonly warnings: readonly string[]
  /** Whether it waits for what it is to run; until then it does not keep this process alive. */
  readonly parked: boolean
  /** Who answers its system calls, and those of the filter of its first process. */
  readonly supervision: Supervision | undefined
  readonly supervisor: FilterServer | undefined
}
