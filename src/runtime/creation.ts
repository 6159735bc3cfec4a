import { closeSync } from 'node:fs'
import { dirname } from 'node:path'
import { delay, untilAborted } from '../internal/abort.ts'
import { type Settled, settled, unsettled } from '../internal/settled.ts'
import { hostArchitecture } from '../linux/architecture.ts'
import { type Call, filled, type Out, out } from '../linux/call.ts'
import { kill, pidfdOpen, SIGKILL, siginfoSize, waitForAnyExit, waitForExit } from '../linux/calls/processes.ts'
import { writeIdMaps } from '../linux/id-maps.ts'
import { perform } from '../linux/local.ts'
import { Channel } from '../linux/remote/channel.ts'
import { type Remote, socketPair } from '../linux/remote/remote.ts'
import type { Descriptors } from '../linux/remote/spawn.ts'
import type { Results } from '../linux/runner.ts'
import { directoriesOf, type Placement } from './cgroups/plan.ts'
import { removeCgroup } from './cgroups/remove.ts'
import { RuntimeContainer } from './container.ts'
import type { CreateOptions } from './create.ts'
import { sendPidfd } from './descriptor-socket.ts'
import { descriptor } from './descriptors.ts'
import { outlives } from './exec.ts'
import { plannedFacts, rootfsOf } from './facts.ts'
import {
  aloneBatchOf,
  foresee,
  foresightOf,
  forgetForesight,
  isAsForeseen,
  isAwaited,
  isUninterrupted,
  needsNothing,
  nobody,
  otherwise,
} from './foresight.ts'
import { listenForStart } from './handover.ts'
import { createHooks, hasHooks, runHooks, runPoststopHooks } from './hooks.ts'
import { foundTargets } from './masks.ts'
import { withMissingTargets } from './missing-targets.ts'
import { type Watch, watcherCalls } from './monitor.ts'
import { monitorProcess, runAlone } from './monitor-process.ts'
import type { Stage } from './namespaces.ts'
import { NetDeviceMoves } from './net-devices.ts'
import { checkWorkingDirectory, chooseProgram } from './no-program.ts'
import { setOomScore } from './oom-score.ts'
import { writePidFile } from './pid-file.ts'
import type { Plan } from './plan.ts'
import { pidIn, startTimeOf } from './processes.ts'
import { removeResctrl } from './resctrl.ts'
import { planRootMount, type RootMount, removeRootMount } from './root-mount.ts'
import { connectListener } from './seccomp-listener.ts'
import type { ContainerFacts, ContainerRecord, StateDirectory } from './state-directory.ts'
import type { FilterServer } from './syscalls/filter-server.ts'
import type { Supervision } from './syscalls/supervision.ts'
import { startScope, stopScope } from './systemd/scope.ts'
import type { Terminal } from './terminal.ts'
import { TerminalLink } from './terminal-link.ts'
import { openUserNamespaces } from './user-namespaces.ts'

/** How long a first process that was killed may take to be gone, in milliseconds. */
const patience = 5000

/** How this module itself makes a container. */
export interface InternalCreateOptions extends CreateOptions {
  /** Whether what it runs is told only when it is to run. */
  readonly parked: boolean
  /** See PlanOptions. */
  readonly early?: boolean | undefined
  /** The text of the config. */
  readonly config: string
  /** Who answers its system calls. */
  readonly supervision?: Supervision | undefined
}

/** The making of one container: what has been made so far, so that it can be undone. */
export class Creation {
  private readonly options: InternalCreateOptions
  private readonly plan: Plan
  private readonly directory: StateDirectory
  private readonly outlive: boolean
  /** Directories of its cgroup. */
  private readonly cgroups: readonly string[]
  private monitor: Remote | undefined
  /** What the monitor was made with, when it can be another's afterwards. */
  private lent: Descriptors | undefined
  private init: Channel | undefined
  private stage: Channel | undefined
  private userNamespaces: number[] = []
  /** The first process, as long as its monitor does not wait for it: the number is its own until then. */
  private pid: number | undefined
  private pidfd: number | undefined
  /** How the monitor waits for the end of the first process, which it ends when it is hung up on, if it has been told to. */
  private watch: Watch | undefined
  /** The record that hooks have been told of. */
  private hooked: ContainerRecord | undefined
  private rootMount: RootMount | undefined
  private devices: NetDeviceMoves | undefined
  private link: TerminalLink | undefined
  /** Whether systemd has made the cgroup. */
  private isPlaced = false
  private terminal: Terminal | undefined
  private parkedSocket: number | undefined
  private supervisor: FilterServer | undefined
  private foreseen = false

  constructor(options: InternalCreateOptions, plan: Plan, directory: StateDirectory) {
    this.options = options
    this.plan = plan
    this.directory = directory
    this.outlive = outlives(options)
    this.cgroups = directoriesOf(plan.cgroup).map((path) => filled(path, options.id))
  }

  /** Of a parked container: the socket by which its standard streams are handed over; whoever takes it closes it. */
  get streams(): number | undefined {
    return this.parkedSocket
  }

  async run(): Promise<RuntimeContainer> {
    const { options, plan, directory } = this
    const { signal } = options
    if (plan.isRootOnHost) this.rootMount = planRootMount(rootfsOf(options))
    // Whoever finds the directory after a crash must learn of what is made now.
    const facts = this.facts()
    directory.write(facts, options.config)
    if (plan.idMaps.length > 0) this.userNamespaces = await openUserNamespaces(plan.idMaps)
    const foresight = isUninterrupted(options, plan) ? foresightOf(plan) : undefined
    this.foreseen = foresight !== undefined
    const isAlone = foresight !== undefined && needsNothing(options, plan)
    const of = { stateRoot: dirname(directory.path), pid: 0, rootMount: this.rootMount }
    this.watch = isAlone ? plan.watch(of) : undefined
    const alone = this.watch === undefined ? undefined : aloneBatchOf(plan, this.watch)
    const { monitor, init, making } = this.spawn(alone)
    const made = settled(making)
    const first = (alone === undefined ? foresight?.calls : foresight?.aloneCalls) ?? plan.setup
    // Handed over before there is anybody to read it: the first process finds it when it is born.
    const early = isAwaited(plan) ? undefined : settled(init.run(first, { again: true }))
    this.planAhead()
    if (this.watch === undefined) await this.passOn(unsettled(await made), monitor)
    signal?.throwIfAborted()
    // A monitor that has failed made nobody who could answer.
    const failed = made.then((outcome) => ('error' in outcome ? outcome : (early ?? outcome)))
    const answer = await (early === undefined
      ? settled(init.run(plan.setup, { again: true }))
      : Promise.race([early, failed]))
    const setup = await this.setUp(init, answer)
    const pid = this.pid ?? pidIn(setup.bytes(plan.stat as Out))
    if (pid === undefined) throw otherwise()
    signal?.throwIfAborted()
    const startTime = startTimeOf(pid, plan.stat === undefined ? undefined : setup.bytes(plan.stat))
    const isSteady = await this.examine(init, setup)
    const { netDevices = {} } = options.spec.linux ?? {}
    if (Object.keys(netDevices).length > 0) {
      this.devices = new NetDeviceMoves(netDevices, pid)
      await this.devices.move(init)
    }
    const record = { ...facts, pid, startTime, started: false }
    // Whoever finds the directory after a crash must be able to tell that hooks have run.
    directory.tellCreated(record)
    await this.runHooks(record)
    const program = await this.finish(init, setup, isSteady)
    const warnings = plan.warnings.map((each) => filled(each, options.id))
    signal?.throwIfAborted()
    if (options.pidFile !== undefined) writePidFile(options.pidFile, pid)
    if (options.pidfdSocket !== undefined) sendPidfd(options.pidfdSocket, this.hold(pid), 'standard')
    const { spec } = options
    const { pidfd, terminal, lent } = this
    this.pid = undefined
    this.devices?.close()
    return new RuntimeContainer({
      record,
      spec,
      directory,
      plan,
      program,
      monitor,
      watching: this.watch && { watch: this.watch, ended: making },
      lent,
      init,
      pidfd,
      terminal,
      hooks: options.hooks,
      warnings,
      parked: options.parked,
      supervision: options.supervision,
      supervisor: this.supervisor,
    })
  }

  /** Does what the first process, or the one before it, waits for when it is there. */
  private async passOn(made: Results, monitor: Remote): Promise<void> {
    const { plan, options } = this
    const born = made.value(plan.clone)
    const placed = await this.place(plan.cgroup.placement, born, monitor)
    if (plan.namespaces.isNew('user')) await writeIdMaps(born, options.spec.linux)
    this.pid = this.stage === undefined ? born : await this.passStage(this.stage, born)
    setOomScore(this.pid, options.spec, plan.namespaces)
    plan.cgroup.verify?.(placed ?? made)
  }

  /** Whether it has failed for what was foreseen, perhaps: it is to be tried without. */
  get wasForeseen(): boolean {
    return this.foreseen
  }

  /** Looks at what the first batch has found. @returns whether nothing had to be done. */
  private async examine(init: Channel, setup: Results): Promise<boolean> {
    const { plan } = this
    let isSteady = true
    for (const examine of plan.examinations) {
      const examined = examine(setup, this.foreseen ? nobody : init)
      if (examined === undefined) continue
      isSteady = false
      await examined
    }
    return isSteady
  }

  /** Runs the hooks of the create operation: everything is mounted, and the root not entered yet. */
  private async runHooks(record: ContainerRecord): Promise<void> {
    const { spec, hooks, signal } = this.options
    for (const kind of createHooks) {
      if (!hasHooks(kind, spec, hooks)) continue
      this.hooked = record
      await runHooks(kind, { record, spec, pidfd: this.hold(record.pid) }, hooks, signal)
    }
  }

  /** Has systemd make the cgroup for the process that was born, which waits meanwhile. What it makes is born there. */
  private async place(placement: Placement | undefined, born: number, monitor: Remote): Promise<Results | undefined> {
    if (placement === undefined) return undefined
    const { id, signal } = this.options
    await untilAborted(startScope(id, born, placement.scope, placement.properties), signal)
    this.isPlaced = true
    return monitor.run(placement.calls(born))
  }

  /** What the first batch gave, after what was missing in the image has been made. */
  private async setUp(init: Channel, outcome: Settled<Results>): Promise<Results> {
    if (!('error' in outcome)) return outcome.value
    return await withMissingTargets(init, outcome.error, descriptor.root, this.plan.fileTargets)
  }

  /** Has the process before the first one do its part. @returns the pid of the first one. */
  private async passStage(stage: Channel, born: number): Promise<number> {
    const planned = this.plan.namespaces.stage as Stage
    const pid = (await stage.run(planned.calls)).value(planned.clone)
    await stage.close()
    const ended = waitForExit(born, out(siginfoSize), 0, 0, { step: 'make the namespaces' })
    await this.monitor?.run([ended, ...this.plan.cgroup.late, ...watcherCalls(pid)])
    return pid
  }

  /** Does what is asked for later: now the kernel is busy, and this process is not. */
  private planAhead(): void {
    void this.plan.lookups
    if (!this.options.parked) void this.plan.start
  }

  /** @returns a descriptor that stands for the first process. */
  private hold(pid: number): number {
    this.pidfd ??= perform(pidfdOpen(pid, { step: 'get hold of the container' }))
    return this.pidfd
  }

  /** Ends what goes on in the container's first process. What waits for it then fails. */
  interrupt(): void {
    if (this.pid !== undefined) perform(kill(this.pid, SIGKILL, { tolerate: 'ESRCH' }))
    else if (this.watch !== undefined) this.monitor?.hangUp()
  }

  /** Removes all that was made. Errors of it would hide the one that led here. */
  async undo(): Promise<void> {
    // The namespace of a container that is killed takes them with it.
    await this.devices?.back().catch(() => {})
    this.devices?.close()
    this.interrupt()
    await Promise.all([this.init?.close(), this.stage?.close()])
    if (this.monitor !== undefined) {
      // The first process has no batch left and ends; its parent alone can tell when.
      const gone = this.monitor.run([waitForAnyExit(out(siginfoSize), 0, { tolerate: 'ECHILD' })]).catch(() => {})
      const late = new AbortController()
      await Promise.race([gone, delay(patience, late.signal).catch(() => {})])
      late.abort()
      await this.monitor.close().catch(() => {})
    }
    if (this.pidfd !== undefined) closeSync(this.pidfd)
    await this.options.supervision?.close()
    this.terminal?.destroy()
    this.link?.close()
    if (this.parkedSocket !== undefined) closeSync(this.parkedSocket)
    const { cgroup } = this.plan
    // A unit of that name that was there before is somebody else's.
    if (cgroup.placement === undefined || this.isPlaced) await removeCgroup(this.cgroups).catch(() => {})
    if (this.isPlaced) await stopScope(cgroup.placement?.scope).catch(() => {})
    await removeResctrl(this.plan.intelRdt.directories).catch(() => {})
    removeRootMount(this.rootMount)
    this.directory.remove()
    const { spec, hooks } = this.options
    if (this.hooked !== undefined) await runPoststopHooks({ record: this.hooked, spec, pidfd: undefined }, hooks)
  }

  /** Starts the monitor, which then makes the first process. */
  private spawn(alone: readonly Call[] | undefined): {
    readonly monitor: Remote
    readonly init: Channel
    readonly making: Promise<Results>
  } {
    const { options, plan, directory } = this
    const { id: text } = options
    const between = plan.namespaces.stage === undefined ? undefined : socketPair()
    if (between !== undefined) this.stage = new Channel(between.here, { architecture: hostArchitecture(), text })
    let listener: number | undefined
    let agent: number | undefined
    let theirs: number | undefined
    let child: number | undefined
    try {
      const descriptors = new Map<number, number>([[descriptor.lock, directory.lock]])
      this.userNamespaces.forEach((fd, index) => {
        descriptors.set(descriptor.userNamespaces + index, fd)
      })
      if (options.rootTree !== undefined) descriptors.set(descriptor.rootTree, options.rootTree)
      if (between !== undefined) descriptors.set(descriptor.stage, between.there)
      options.stdio?.slice(0, 3).forEach((fd, index) => {
        if (fd !== undefined) descriptors.set(index, fd)
      })
      if (options.spec.process?.terminal === true) {
        this.link = new TerminalLink()
        descriptors.set(descriptor.terminal, this.link.there)
      }
      for (let n = 0; n < (options.preserveFds ?? 0); n++) descriptors.set(descriptor.preserved + n, 3 + n)
      if (options.handOver === true) {
        listener = listenForStart(directory)
        descriptors.set(plan.channel + 1, listener)
      }
      if (options.parked) {
        const streams = socketPair()
        this.parkedSocket = streams.here
        theirs = streams.there
        descriptors.set(plan.channel + 1, theirs)
      }
      if (plan.listener !== undefined) {
        this.supervisor = options.supervision?.open(options.spec.process ?? {})
        agent = this.supervisor?.takeSocket() ?? connectListener(options.spec.linux?.seccomp?.listenerPath ?? '')
        descriptors.set(plan.listener, agent)
      }
      // The id maps of an ordinary user's namespace are written by way of /proc, which must show the process.
      const dumpable = plan.namespaces.isNew('user')
      const staysAsItIs = !dumpable && between === undefined && plan.namespaces.monitorCalls.length === 0
      const { outlive } = this
      const isLent = staysAsItIs && !outlive
      const purpose = { channel: plan.channel, text, outlive, dumpable, isLent, isAlone: alone !== undefined }
      const got = monitorProcess(descriptors, purpose)
      const { remote: monitor, children: init } = got
      this.monitor = monitor
      this.init = init
      if (isLent) this.lent = got.descriptors
      child = got.handed
      if (alone === undefined) return { monitor, init, making: monitor.run(plan.monitor, { again: true }) }
      return { monitor, init, making: runAlone(got, alone, isLent) }
    } finally {
      if (child !== undefined) closeSync(child)
      if (between !== undefined) closeSync(between.there)
      if (listener !== undefined) closeSync(listener)
      if (theirs !== undefined) closeSync(theirs)
      if (agent !== undefined) closeSync(agent)
      for (const fd of this.userNamespaces.splice(0)) closeSync(fd)
      this.link?.handOver()
    }
  }

  /** The second batch of the first process: masks, root, working directory. @returns path of the program. */
  private async finish(init: Channel, setup: Results, isSteady: boolean): Promise<string> {
    const { plan, options } = this
    const results = this.foreseen ? setup : await init.run(this.finishingCalls(setup, isSteady), { again: true })
    if (this.foreseen && !isAsForeseen(plan, results)) throw otherwise()
    if (options.parked) return ''
    checkWorkingDirectory(options.id, plan, results)
    if (this.link !== undefined) {
      this.terminal = this.link.receive(options.consoleSocket)
      this.link.close()
      this.link = undefined
    }
    return chooseProgram(options.id, plan, results, options.spec.process?.args?.[0] ?? '')
  }

  private finishingCalls(setup: Results, isSteady: boolean): readonly Call[] {
    const { plan } = this
    const found = foundTargets(plan.targets, setup)
    const calls = plan.finish(found)
    if (isSteady) foresee(plan, found)
    else forgetForesight(plan)
    return calls
  }

  private facts(): ContainerFacts {
    const { options, plan, cgroups, rootMount } = this
    return plannedFacts(options, plan.cgroup, { cgroups, rootMount, resctrl: plan.intelRdt.directories })
  }
}
