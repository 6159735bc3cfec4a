import type { Spec } from '../../bundle/spec.ts'
import type { Process } from '../../bundle/spec-process.ts'
import { InvalidArgumentError } from '../../errors.ts'
import type { Call } from '../../linux/call.ts'
import { thisHost } from '../host.ts'
import type { FilterServer } from './filter-server.ts'
import { syscallNames } from './names.ts'
import { ownCalls, withHandled } from './profile.ts'
import { Supervisor, type SupervisorOptions } from './supervisor.ts'
import type { SyscallHandler, SyscallHandlers } from './types.ts'

/** Milliseconds that a handler has by default. */
const defaultTimeout = 10_000
/** Longest time, in milliseconds: what a timer of Node can wait. */
const maxTimeout = 2 ** 31 - 1

/** Who has to do with the system calls of a container: of its first process, and of those that enter it. */
export interface Supervision {
  /** The config with a filter that hands the calls over. @throws InvalidArgumentError for one that can't have it. */
  specOf(spec: Spec): Spec
  /** Serves one more filter: that of `process`. */
  open(process: Pick<Process, 'capabilities'>): FilterServer
  /** Tells a server which of the calls that load its filter it will see. */
  passOver(server: FilterServer, calls: readonly Call[]): void
  /** Ends all. Idempotent. */
  close(): Promise<void>
}

/** Functions answer the system calls of a container. */
export class HandlerSupervision implements Supervision {
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

  specOf(spec: Spec): Spec {
    return withHandled(spec, [...this.names], thisHost())
  }

  open(): FilterServer {
    const supervisor = new Supervisor(this.options)
    this.supervisors.add(supervisor)
    void supervisor.ended.then(() => this.supervisors.delete(supervisor))
    return supervisor
  }

  passOver(server: FilterServer, calls: readonly Call[]): void {
    server.skip(ownCalls(calls, (name) => this.names.has(name)).length)
  }

  async close(): Promise<void> {
    await Promise.all([...this.supervisors].map((each) => each.close()))
  }
}
