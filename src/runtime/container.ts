import { closeSync } from 'node:fs'
import type { State } from '../bundle/state.ts'
import { ConflictError, type ExitStatus, RemoteExitError } from '../errors.ts'
import { pidfdSendSignal, SIGKILL } from '../linux/calls/processes.ts'
import { perform } from '../linux/local.ts'
import type { Channel } from '../linux/remote/channel.ts'
import type { Remote } from '../linux/remote/remote.ts'
import { removeCgroup } from './cgroups/cgroup.ts'
import { exitStatus, killedWithMonitor, watchExit } from './exit.ts'
import type { Plan } from './plan.ts'
import { signalNumber } from './processes.ts'
import type { ContainerRecord, StateDirectory } from './state-directory.ts'
import { stepFailed } from './step-error.ts'

/** What `create` hands over. */
export interface ContainerParts {
  readonly record: ContainerRecord
  readonly directory: StateDirectory
  readonly plan: Plan
  readonly program: string
  readonly monitor: Remote
  readonly init: Channel
  /** Descriptor that stands for the first process. */
  readonly pidfd: number
  readonly exitRecord: string | undefined
  readonly warnings: readonly string[]
}

/** A container of this process (runtime-spec, runtime.md, "Lifecycle"). */
export class RuntimeContainer implements AsyncDisposable {
  readonly id: string
  /** The container's first process, as the host sees it. */
  readonly pid: number
  /** How it ended. Never rejects. */
  readonly exited: Promise<ExitStatus>
  /** What was asked for and could not be given, one sentence each; the spec says that it is no failure. */
  readonly warnings: readonly string[]
  private readonly parts: ContainerParts
  private status: 'created' | 'running' | 'stopped' = 'created'
  private deletion: Promise<void> | undefined
  private pidfdOpen = true

  /** @internal */
  constructor(parts: ContainerParts) {
    this.parts = parts
    this.id = parts.record.id
    this.pid = parts.record.pid
    this.warnings = parts.warnings
    this.exited = this.watch()
  }

  /** The state that the spec defines. */
  get state(): State {
    const { ociVersion, bundle, annotations } = this.parts.record
    const pid = this.status === 'stopped' ? {} : { pid: this.pid }
    return {
      ociVersion,
      id: this.id,
      status: this.status,
      ...pid,
      bundle,
      ...(annotations === undefined ? {} : { annotations }),
    }
  }

  /**
   * Runs the program of the config. Resolves when the kernel has accepted it.
   * @throws ConflictError unless the container is created and not started. @throws RuntimeError naming the
   * step that failed; the container then has stopped.
   */
  async start(): Promise<void> {
    const { init, plan, program, record, directory } = this.parts
    if (this.status !== 'created') {
      throw new ConflictError(this.id, `container ${this.id} can't be started: it is ${this.status}`)
    }
    this.status = 'running'
    try {
      await init.run(plan.start(program))
    } catch (cause) {
      // On success the process is another program, and the socket is closed.
      if (!(cause instanceof RemoteExitError)) {
        this.signal(SIGKILL)
        await this.exited
        throw stepFailed(this.id, cause)
      }
    }
    directory.write({ ...record, started: true })
  }

  /**
   * Sends a signal to the first process: a number, `SIGTERM` or `TERM`.
   * @throws ConflictError when it has ended. @throws InvalidArgumentError for what is no signal.
   */
  kill(signal: string | number = 'SIGTERM'): void {
    const number = signalNumber(signal)
    if (this.status === 'stopped' || !this.signal(number)) {
      throw new ConflictError(this.id, `container ${this.id} is not running`)
    }
  }

  /**
   * Removes what create made: cgroup, state, monitor. Idempotent.
   * @param options.force Kill it when it runs. Default false.
   * @throws ConflictError when it runs and is not to be killed.
   */
  delete(options: { readonly force?: boolean } = {}): Promise<void> {
    if (this.deletion === undefined) {
      if (this.status === 'running' && options.force !== true) {
        const hint = 'Stop it before, or delete it with force.'
        return Promise.reject(new ConflictError(this.id, `container ${this.id} is running`, { hint }))
      }
      this.deletion = this.remove()
    }
    return this.deletion
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.delete({ force: true })
  }

  private async remove(): Promise<void> {
    const { directory, monitor, init, record } = this.parts
    if (this.status !== 'stopped') this.signal(SIGKILL)
    await this.exited
    await init.close()
    await Promise.all([removeCgroup(record.cgroups), monitor.close()])
    directory.remove()
  }

  private async watch(): Promise<ExitStatus> {
    const { monitor, record, exitRecord } = this.parts
    const watched = watchExit(this.pid, record.oomCounter, exitRecord)
    let status = killedWithMonitor
    try {
      const results = await monitor.run(watched.calls)
      status = exitStatus(results.bytes(watched.siginfo), results.bytes(watched.oomText))
    } catch {
      // The monitor was killed; its death is the first process's as well.
      this.signal(SIGKILL)
    }
    this.status = 'stopped'
    this.pidfdOpen = false
    closeSync(this.parts.pidfd)
    return status
  }

  /** @returns false when the process has ended. */
  private signal(number: number): boolean {
    if (!this.pidfdOpen) return false
    return perform(pidfdSendSignal(this.parts.pidfd, number, { tolerate: 'ESRCH' })) === 0
  }
}
