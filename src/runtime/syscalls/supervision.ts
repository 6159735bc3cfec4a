import type { Spec } from '../../bundle/spec.ts'
import { InvalidArgumentError } from '../../errors.ts'
import type { Call } from '../../linux/call.ts'
import { thisHost } from '../host.ts'
import { syscallNames } from './names.ts'
import { ownCalls, withHandled } from './profile.ts'
import { Supervisor, type SupervisorOptions } from './supervisor.ts'
import type { SyscallHandler, SyscallHandlers } from './types.ts'

/** Milliseconds that a handler has by default. */
const defaultTimeout = 10_000
/** Longest time, in milliseconds: what a timer of Node can wait. */
const maxTimeout = 2 ** 31 - 1

/** The answers to the system calls of a container: of its first process, and of those that enter it. */
export class Supervision {
  private readonly options: SupervisorOptions
  private readonly names: ReadonlySet<string>
  private readonly supervisors = new Set<Supervisor>()

  /** @throws InvalidArgumentError for what is no handler or no time. */
  constructor(id: string, handlers: SyscallHandlers, timeout: number = defaultTimeout) {
    if (!(timeout > 0 && timeout <= maxTimeout)) {
      throw new InvalidArgumentError(`syscallTimeout must be above 0 milliseconds, not ${timeout}`, {
        subject: 'syscallTimeout',
      })
    }
    const byName = new Map<string, SyscallHandler>(Object.entries(handlers))
    for (const [name, handler] of byName) {
      if (typeof handler === 'function') continue
      throw new InvalidArgumentError(`onSyscall: the handler of ${name} must be a function`, { subject: name })
    }
    this.names = new Set(byName.keys())
    const known = syscallNames(this.names)
    const find: SupervisorOptions['find'] = (audit, number) => {
      const named = known(audit, number)
      const handler = named === undefined ? undefined : byName.get(named.name)
      return named === undefined || handler === undefined ? undefined : { ...named, handler }
    }
    this.options = { id, find, timeout }
  }

  /** The config with a filter that hands the calls over. @throws as {@link withHandled} does. */
  specOf(spec: Spec): Spec {
    return withHandled(spec, [...this.names], thisHost())
  }

  /** Answers for one more filter. */
  open(): Supervisor {
    const supervisor = new Supervisor(this.options)
    this.supervisors.add(supervisor)
    void supervisor.ended.then(() => this.supervisors.delete(supervisor))
    return supervisor
  }

  /** Tells a supervisor which of the calls that load its filter it will see. */
  passOver(supervisor: Supervisor, calls: readonly Call[]): void {
    supervisor.skip(ownCalls(calls, this.names))
  }

  /** Ends all. Idempotent. */
  async close(): Promise<void> {
    await Promise.all([...this.supervisors].map((each) => each.close()))
  }
}
