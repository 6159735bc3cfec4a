import { dirname } from 'node:path'
import type { Mount, Spec } from '../bundle/spec.ts'
import type { LinuxResources } from '../bundle/spec-resources.ts'
import type { State } from '../bundle/state.ts'
import { ConflictError, type ExitStatus, InvalidArgumentError, NotFoundError } from '../errors.ts'
import type { Call } from '../linux/call.ts'
import { SIGKILL } from '../linux/calls/processes.ts'
import { giveBack } from '../linux/remote/spares.ts'
import type { Results } from '../linux/runner.ts'
import { auditRecord } from './audit/audit.ts'
import type { AuditFinding } from './audit/finding.ts'
import { isFrozen, thawV1 } from './cgroups/freezer.ts'
import { locateCgroup } from './cgroups/location.ts'
import { removeCgroup } from './cgroups/remove.ts'
import type { ContainerParts } from './container-parts.ts'
import { type CheckpointOptions, checkpointRecord } from './criu/checkpoint.ts'
import { deleteContainer } from './delete.ts'
import { type ContainerEvent, type EventsOptions, eventsOf } from './events.ts'
import { type ExecOptions, type ExecProcess, execIn, notRunning } from './exec.ts'
import { exitStatus, killedWithMonitor } from './exit.ts'
import { FirstProcess } from './first-process.ts'
import { leaveToParent } from './handover.ts'
import { type HookTarget, hasHooks, runHooks, runPoststopHooks } from './hooks.ts'
import { killAllOf } from './kill-all.ts'
import { addMountTo, removeMountFrom } from './live-mounts.ts'
import { notRemoved, type Watch } from './monitor.ts'
import { pauseRecord, resumeRecord } from './pause.ts'
import { signalNumber } from './processes.ts'
import { removeResctrl } from './resctrl.ts'
import { type ResourceUsage, resourceUsage } from './resource-usage.ts'
import { removeRootMount } from './root-mount.ts'
import type { RuntimeProcess } from './runtime-process.ts'
import type { ContainerRecord } from './state-directory.ts'
import { statsOf } from './stats/stats.ts'
import type { ContainerStats } from './stats/types.ts'
import { stepFailed } from './step-error.ts'
import { stopScope } from './systemd/scope.ts'
import type { Terminal } from './terminal.ts'
import { type ProcessInfo, processesOf } from './top.ts'
import { updateRecord } from './update.ts'

/** A container of this process (runtime-spec, runtime.md, "Lifecycle"). */
export class RuntimeContainer implements AsyncDisposable {
  readonly id: string
  /** The container's first process, as the host sees it. */
  readonly pid: number
  /** How it ended. Never rejects. */
  readonly exited: Promise<ExitStatus>
  /** What was asked for and could not be given, one sentence each; the spec says that it is no failure. */
  readonly warnings: readonly string[]
  /** Its terminal, when the config has one that was not given to somebody else. */
  readonly terminal: Terminal | undefined
  private readonly parts: ContainerParts
  private spec: Spec
  private status: 'created' | 'running' | 'stopped' = 'created'
  private deletion: Promise<void> | undefined
  private readonly first: FirstProcess
  private released = false
  private used: ResourceUsage | undefined
  /** Directories of the cgroup that are still to be removed. */
  private cgroups: readonly string[]
  /** The monitor's own removal of the cgroup, which comes right after the end. */
  private cgroupsRemoved: Promise<void> | undefined

  /** @internal */
  constructor(parts: ContainerParts) {
    this.parts = parts
    this.spec = parts.spec
    this.id = parts.record.id
    this.pid = parts.record.pid
    this.warnings = parts.warnings
    this.terminal = parts.terminal
    this.cgroups = parts.record.cgroups
    this.first = new FirstProcess(parts.record, parts.pidfd)
    if (parts.record.started) this.status = 'running'
    this.exited = this.watch()
  }

  /** The config that it was made with. */
  get config(): Spec {
    return this.spec
  }

  /** The state that the spec defines. */
  get state(): State {
    const { ociVersion, bundle, annotations } = this.parts.record
    const pid = this.status === 'stopped' ? {} : { pid: this.pid }
    return {
      ociVersion,
      id: this.id,
      status: this.status === 'running' && isFrozen(locateCgroup(this.cgroups)) ? 'paused' : this.status,
      ...pid,
      bundle,
      ...(annotations === undefined ? {} : { annotations }),
    }
  }

  /**
   * Runs the program of the config. Resolves when the kernel has accepted it, as its monitor tells.
   * @throws ConflictError unless the container is created and not started. @throws RuntimeError naming the
   * step that failed; the container then has stopped.
   */
  async start(): Promise<void> {
    const { plan, program } = this.parts
    const calls = this.status === 'created' ? plan.start?.(program, this.pid) : []
    if (calls === undefined) {
      throw new InvalidArgumentError(`container ${this.id} has no process to start`, { subject: '/process' })
    }
    await this.startWith(calls)
  }

  /**
   * The start by a batch after which the first process is the program.
   * @param run Of a parked container: the config with what it runs, its text where that is another one than before, and
   * the error for a batch that was made to its end.
   * @internal
   */
  async startWith(
    calls: readonly Call[],
    run?: {
      readonly spec: Spec
      readonly config: string | undefined
      readonly noneExecuted: (results: Results) => unknown
    },
  ): Promise<void> {
    const { init, directory, monitor } = this.parts
    if (this.status !== 'created') {
      throw new ConflictError(this.id, `container ${this.id} can't be started: it is ${this.status}`)
    }
    if (!init.isOpen) {
      throw new ConflictError(this.id, `container ${this.id} can't be started: its first process was killed`)
    }
    this.spec = run?.spec ?? this.spec
    const { spec } = this
    const { hooks } = this.parts
    this.status = 'running'
    try {
      monitor.hold()
      if (hasHooks('startContainer', spec, hooks)) await runHooks('startContainer', this.hookTarget(), hooks)
      const { supervision, supervisor } = this.parts
      if (supervisor !== undefined) supervision?.passOver(supervisor, calls)
      const started = init.become(calls, { again: true })
      started.catch(() => {}) // it is looked at below, whatever comes before
      // While the kernel is at it. If it fails, the record is of a container that has stopped.
      directory.tellStarted()
      if (run?.config !== undefined) {
        const { pid: _, startTime: __, started: ___, ...facts } = this.parts.record
        directory.rewrite(facts, run.config)
      }
      const results = await started
      if (results !== undefined && run !== undefined) throw run.noneExecuted(results)
    } catch (cause) {
      throw await this.startFailed(cause)
    }
    if (!hasHooks('poststart', spec, hooks)) return
    await runHooks('poststart', this.hookTarget(), hooks).catch(async (cause: unknown) => {
      throw await this.startFailed(cause)
    })
  }

  /** Ends the container. @returns the error that tells why. */
  private async startFailed(cause: unknown): Promise<unknown> {
    this.first.signal(SIGKILL)
    await this.exited
    return stepFailed(this.id, cause)
  }

  private hookTarget(): HookTarget {
    return { record: this.parts.record, spec: this.spec, pidfd: this.first.pidfd }
  }

  /**
   * Sends a signal to the first process: a number, `SIGTERM` or `TERM`.
   * @throws ConflictError when it has ended. @throws InvalidArgumentError for what is no signal.
   */
  kill(signal: string | number = 'SIGTERM'): void {
    const number = signalNumber(signal)
    if (this.status === 'stopped' || !this.first.signal(number)) {
      throw new ConflictError(this.id, `container ${this.id} is not running`)
    }
  }

  /**
   * Sends a signal to all its processes, also to those that were left when its first one ended.
   * @throws ConflictError when no process is left. @throws InvalidArgumentError for what is no signal.
   */
  async killAll(signal: string | number = 'SIGTERM'): Promise<void> {
    await killAllOf(this.presentRecord(), signal)
  }

  /**
   * What its first process used, and those that this waited for. Waits for its end. Undefined when its monitor was killed
   * with it, and nobody can tell.
   */
  async usage(): Promise<ResourceUsage | undefined> {
    await this.exited
    return this.used
  }

  /**
   * Runs a further process in the container. Resolves when the kernel has accepted the program.
   * @throws ConflictError when the container has stopped. @throws RuntimeError naming the step that failed;
   * nothing is left behind. @throws InvalidArgumentError for what can't be used of the options and the process.
   */
  async exec(process: ExecProcess, options: ExecOptions = {}): Promise<RuntimeProcess> {
    const { pidfd } = this.first
    if (pidfd === undefined) throw notRunning(this.id)
    const { supervision } = this.parts
    return execIn({ record: this.presentRecord(), spec: this.spec, pidfd, supervision }, process, options)
  }

  /**
   * Stops all its processes where they are; see {@link resume}.
   * @throws ConflictError unless it runs or is created. @throws UnsupportedError when it has no cgroup that can do it.
   * @throws TimeoutError when the kernel can't stop them within ten seconds; they go on then.
   */
  async pause(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    await pauseRecord(this.presentRecord(), options.signal)
  }

  /** Lets its processes go on. @throws ConflictError when it is not paused. */
  async resume(): Promise<void> {
    await resumeRecord(this.presentRecord())
  }

  /** Changes limits while it runs; see `update` of oci-ts/runtime. */
  async update(resources: LinuxResources): Promise<void> {
    const root = dirname(this.parts.directory.path)
    this.cgroups = await updateRecord(root, this.presentRecord(), resources)
  }

  /** What it uses at this moment. @throws ConflictError when it does not run. */
  async stats(): Promise<ContainerStats> {
    return statsOf(this.presentRecord())
  }

  /** Its processes, by pid. @throws ConflictError when it does not run. */
  async top(): Promise<readonly ProcessInfo[]> {
    return processesOf(this.presentRecord())
  }

  /**
   * Adds a mount while it runs; see `addMount` of oci-ts/runtime.
   * @throws ConflictError when it does not run.
   */
  async addMount(mount: Mount): Promise<void> {
    await addMountTo(this.presentRecord(), this.spec, mount)
  }

  /** Takes a mount away while it runs; see `removeMount` of oci-ts/runtime. */
  async removeMount(destination: string): Promise<void> {
    await removeMountFrom(this.presentRecord(), this.spec, destination)
  }

  /** Saves it to files by way of CRIU; see `checkpoint` of oci-ts/runtime. */
  async checkpoint(options: CheckpointOptions): Promise<void> {
    await checkpointRecord(this.presentRecord(), this.spec, options)
  }

  /** Compares what it is with what its config asked for; see `audit` of oci-ts/runtime. */
  async audit(): Promise<readonly AuditFinding[]> {
    return auditRecord(this.presentRecord(), this.spec)
  }

  /** What happens to it until it ends; see `events` of oci-ts/runtime. */
  events(options: Omit<EventsOptions, 'stateRoot'> = {}): AsyncGenerator<ContainerEvent, void, void> {
    return eventsOf(this.presentRecord(), options)
  }

  /**
   * Removes what create made: cgroup, state, monitor. Idempotent.
   * @param options.force Kill it when it runs. Default false.
   * @throws ConflictError when it runs and is not to be killed.
   */
  delete(options: { readonly force?: boolean } = {}): Promise<void> {
    if (this.released) return this.removeReleased(options)
    if (this.deletion === undefined) {
      if (this.status === 'running' && options.force !== true) {
        const hint = 'Stop it before, or delete it with force.'
        return Promise.reject(new ConflictError(this.id, `container ${this.id} is running`, { hint }))
      }
      this.deletion = this.remove()
    }
    return this.deletion
  }

  /**
   * Lets go of a container that was made with `detach` or `handOver`: it no longer keeps this process alive, and
   * `exited` does not tell of its end any more. Other processes, and this one, go on with it by its id.
   * @throws ConflictError for a container that ends with this process.
   */
  async release(): Promise<void> {
    if (!this.parts.record.outlive) {
      throw new ConflictError(this.id, `container ${this.id} ends with this process: it was not made with detach`)
    }
    this.released = true
    if (this.parts.record.handedOver === true) await leaveToParent(this.parts, this.status !== 'created')
    await Promise.all([this.parts.init.close(), this.parts.monitor.release()])
    // The monitor has the lock with us; while we kept it, nobody could tell that the monitor was killed.
    this.parts.directory.release()
  }

  /** Kills it when it runs, and deletes it. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.delete({ force: true })
  }

  /** Only the state directory tells of it now. */
  private async removeReleased(options: { readonly force?: boolean }): Promise<void> {
    const stateRoot = dirname(this.parts.directory.path)
    await deleteContainer(this.id, { ...options, stateRoot }).catch((error: unknown) => {
      if (!(error instanceof NotFoundError)) throw error
    })
  }

  private async remove(): Promise<void> {
    const { record, directory, monitor, lent, init, watching } = this.parts
    if (this.status !== 'stopped') {
      this.first.signal(SIGKILL)
      await thawV1(locateCgroup(this.cgroups))
    }
    // Of a parked container neither keeps this process alive.
    monitor.hold()
    await this.exited
    monitor.hold()
    const isKept = lent !== undefined && watching !== undefined
    await Promise.all([isKept || init.close(), this.cgroupsRemoved, this.parts.supervision?.close()])
    this.terminal?.destroy()
    // At once and before its socket is closed: it must not take that for the end of this process.
    if (lent === undefined) monitor.dismiss()
    else giveBack(monitor, lent, isKept ? init : undefined)
    const cgroups = this.presentCgroups()
    const { resctrl, scope, rootMount } = record
    const isMore = cgroups.length > 0 || (resctrl?.length ?? 0) > 0 || scope !== undefined || rootMount !== undefined
    // What another process has deleted by its id is gone, and may be there again for another container.
    if (isMore && !directory.isRemoved) {
      await removeCgroup(cgroups)
      await removeResctrl(resctrl)
      await stopScope(scope)
      removeRootMount(rootMount)
    }
    directory.remove()
    await runPoststopHooks(this.hookTarget(), this.parts.hooks)
  }

  private async watch(): Promise<ExitStatus> {
    const { monitor, watching, record, directory, plan, parked } = this.parts
    const stateRoot = dirname(directory.path)
    const watch = watching?.watch ?? plan.watch({ stateRoot, pid: this.pid, rootMount: record.rootMount })
    // The pid of a parked one makes it one of its kind.
    const again = !parked
    const watched = watching?.ended ?? monitor.run(watch.calls, { background: parked, again })
    if (watch.afterwards.length > 0) this.cgroupsRemoved = this.untilRemoved(watch)
    if (watch.farewell.length > 0) monitor.post(watch.farewell, { again, silent: true })
    let status = killedWithMonitor
    try {
      const results = await watched
      status = exitStatus(results.bytes(watch.siginfo), results.bytes(watch.oomText))
      this.used = resourceUsage(results.bytes(watch.rusage))
      if (watch.afterwards.length === 0) this.cgroups = notRemoved(this.cgroups, watch, results, this.id)
    } catch {
      // Never settles: whoever waits for the end has to ask by the id.
      if (this.released) {
        this.terminal?.finish()
        this.first.end()
        return new Promise(() => {})
      }
      // The monitor was killed; its death is the first process's as well.
      try {
        this.first.signal(SIGKILL)
      } catch {
        // There is no descriptor left to say so again; unless it has new ids, it has died of that.
      }
    }
    this.status = 'stopped'
    void this.parts.supervision?.close()
    this.terminal?.finish()
    this.first.end()
    return status
  }

  private async untilRemoved(watch: Watch): Promise<void> {
    try {
      const results = await this.parts.monitor.run(watch.afterwards, { background: true })
      this.cgroups = notRemoved(this.cgroups, watch, results, this.id)
    } catch {
      // The monitor was killed: whoever deletes the container removes them.
    }
  }

  /** Directories of the cgroup, also those that another process has added. */
  private presentCgroups(): readonly string[] {
    return [...new Set([...this.cgroups, ...this.parts.directory.joined])]
  }

  /** The record with what has changed since it was made. */
  private presentRecord(): ContainerRecord {
    return { ...this.parts.record, started: this.status !== 'created', cgroups: this.presentCgroups() }
  }
}
