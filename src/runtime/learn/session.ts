import type { Spec } from '../../bundle/spec.ts'
import type { Process } from '../../bundle/spec-process.ts'
import { hostArchitecture } from '../../linux/architecture.ts'
import type { Call } from '../../linux/call.ts'
import { runFilter } from '../../linux/seccomp/interpret.ts'
import { seccompAnswer } from '../../linux/seccomp/rules.ts'
import { compileSeccomp, seccompMachines } from '../../linux/seccomp.ts'
import { seccompNames } from '../../linux/seccomp-numbers.ts'
import { thisHost } from '../host.ts'
import type { FilterServer } from '../syscalls/filter-server.ts'
import { syscallNames } from '../syscalls/names.ts'
import { ownCalls, withAllHandled } from '../syscalls/profile.ts'
import type { Supervision } from '../syscalls/supervision.ts'
import { CapabilityTrace } from './capability-trace.ts'
import { Learner } from './learner.ts'
import type { Learning } from './learning.ts'

const EPERM = 1
/** How many calls come between two looks at what the kernel has written of capabilities. */
const callsBetweenLooks = 128

/** A call, as a filter is asked about it. */
interface Asked {
  readonly audit: number
  readonly number: number
  readonly args: readonly bigint[]
}

/** What one container adds to a {@link Learning}. */
export class LearningSession implements Supervision {
  private readonly id: string
  private readonly learning: Learning
  private readonly trace: CapabilityTrace
  private readonly profile: Uint8Array | undefined
  private readonly nameOf = syscallNames(everyName())
  private readonly learners = new Set<Learner>()
  private judged = 0

  /** @throws ConflictError, InvalidArgumentError for a config that can't be learned from. */
  constructor(id: string, learning: Learning, { linux }: Spec) {
    const own = linux?.seccomp
    this.id = id
    this.profile = own === undefined ? undefined : compileSeccomp(own, hostArchitecture()).program
    learning.begin(id, own)
    this.learning = learning
    this.trace = new CapabilityTrace()
  }

  specOf(spec: Spec): Spec {
    return withAllHandled(spec, thisHost())
  }

  open({ capabilities }: Pick<Process, 'capabilities'>): FilterServer {
    this.trace.grant(capabilities)
    const learner = new Learner(this.id, {
      started: async (pid) => {
        this.learning.watch(this.trace)
        await this.trace.follow(pid)
      },
      judge: (call) => this.judge(call),
    })
    this.learners.add(learner)
    void learner.ended.then(() => this.learners.delete(learner))
    return learner
  }

  passOver(server: FilterServer, calls: readonly Call[]): void {
    const own = ownCalls(calls, () => true)
    server.skip(own.length)
    // What forgets the listener is not made where there is none.
    this.learning.need(own.map(({ name }) => name).filter((name) => name !== 'close'))
  }

  async close(): Promise<void> {
    this.trace.look()
    await Promise.all([...this.learners].map((each) => each.close()))
    await this.trace.close()
  }

  /** Counts a call. @returns the errno with which the container's own profile refuses it. */
  private judge({ audit, number, args }: Asked): number | undefined {
    const named = this.nameOf(audit, number)
    const refusal = this.refusal({ audit, number, args })
    if (++this.judged % callsBetweenLooks === 0) this.trace.look()
    if (named !== undefined) this.learning.count(named.name, named.architecture, refusal)
    return refusal
  }

  private refusal({ audit, number, args }: Asked): number | undefined {
    if (this.profile === undefined) return undefined
    const { answer } = runFilter(this.profile, { nr: number, arch: audit, args })
    const action = (answer & 0xffff_0000) >>> 0
    if (action === seccompAnswer.allow || action === seccompAnswer.log) return undefined
    return action === seccompAnswer.errno ? answer & 0xffff : EPERM
  }
}

function everyName(): ReadonlySet<string> {
  const machine = seccompMachines[hostArchitecture()]
  return new Set(machine.flatMap(({ listed }) => listed.flatMap(({ architecture }) => seccompNames(architecture))))
}
