import { closeSync, readFileSync, rmSync } from 'node:fs'
import { RemoteExitError } from '../../errors.ts'
import { untilAborted } from '../../internal/abort.ts'
import { stringifyJsonInt64 } from '../../internal/json-int64.ts'
import { hostArchitecture } from '../../linux/architecture.ts'
import { type Call, out } from '../../linux/call.ts'
import { AT_FDCWD, close, closeRange, dup3, F_SETFD, FD_CLOEXEC, fcntl, O, openat } from '../../linux/calls/files.ts'
import {
  CLONE,
  clone,
  execve,
  pidfdOpen,
  pidfdSendSignal,
  SIGKILL,
  setsid,
  siginfoSize,
  stringTable,
  waitForAnyExit,
  waitForExit,
} from '../../linux/calls/processes.ts'
import { perform } from '../../linux/local.ts'
import { Channel } from '../../linux/remote/channel.ts'
import { Remote, socketPair } from '../../linux/remote/remote.ts'
import type { Results } from '../../linux/runner.ts'
import { directoriesOf } from '../cgroups/plan.ts'
import { removeCgroup } from '../cgroups/remove.ts'
import { RuntimeContainer } from '../container.ts'
import { descriptor } from '../descriptors.ts'
import { exitStatus } from '../exit.ts'
import { plannedFacts, rootfsOf } from '../facts.ts'
import { hasHooks, runHooks } from '../hooks.ts'
import { thisHost } from '../host.ts'
import { watcherCalls } from '../monitor.ts'
import { writePidFile } from '../pid-file.ts'
import type { Plan } from '../plan.ts'
import { startTimeOf } from '../processes.ts'
import { removeResctrl } from '../resctrl.ts'
import { rootfsCalls } from '../rootfs.ts'
import type { StateDirectory } from '../state-directory.ts'
import { startScope, stopScope } from '../systemd/scope.ts'
import { deliverTerminal } from '../terminal-link.ts'
import type { HostTerminal } from './host-terminal.ts'
import { criuFailed, criuPath } from './program.ts'
import type { RestoreOptions } from './restore.ts'

/** How CRIU is run. */
export interface CriuRun {
  readonly program: string
  readonly args: readonly string[]
  /** File that it writes the pid of the first process to. */
  readonly pidFile: string
  readonly log: string
  /** Numbers that the standard streams of the container have in CRIU. */
  readonly streams: readonly (number | undefined)[]
  /** The terminal that the container gets: its inner side is {@link terminalNumber} there. */
  readonly terminal: HostTerminal | undefined
  /** Namespaces to join, and the numbers that they have there. */
  readonly namespaces: readonly { readonly path: string; readonly number: number }[]
}

/** Below are descriptors that CRIU is not to get, above as well. */
const firstForCriu = 400
const lastForCriu = 499

/** Number that the inner side of the terminal has in CRIU. */
export const terminalNumber = 403

/**
 * The making of a container by CRIU. The monitor makes the cgroup and, in it, a process with mounts of its own: that
 * mounts the root, and becomes CRIU, which makes the first process as a child of the monitor.
 */
export class Restoration {
  private readonly options: RestoreOptions
  private readonly plan: Plan
  private readonly directory: StateDirectory
  private readonly criu: CriuRun
  private monitor: Remote | undefined
  private channel: Channel | undefined
  private pidfd: number | undefined
  /** Whether systemd has made the cgroup. */
  private isPlaced = false

  constructor(options: RestoreOptions, plan: Plan, directory: StateDirectory, criu: CriuRun) {
    this.options = options
    this.plan = plan
    this.directory = directory
    this.criu = criu
  }

  async run(): Promise<RuntimeContainer> {
    const { options, plan, directory, criu } = this
    const { id, spec, hooks } = options
    const facts = plannedFacts(options, plan.cgroup, {
      cgroups: directoriesOf(plan.cgroup),
      resctrl: plan.intelRdt.directories,
    })
    directory.write(facts, stringifyJsonInt64(spec))
    const { monitor, channel } = this.spawn()
    const born = this.cloneCall()
    // Its end of the channel is closed, so that the other one is the only one.
    const inner = criu.terminal === undefined ? [] : [close(descriptor.terminal)]
    const made = await monitor.run([
      ...plan.cgroup.create,
      ...plan.intelRdt.create,
      born,
      close(descriptor.init),
      ...inner,
    ])
    const placed = await this.place(made.value(born), monitor)
    plan.cgroup.verify?.(placed ?? made)
    if (plan.cgroup.late.length > 0) await monitor.run(plan.cgroup.late)
    await this.becomeCriu(channel)
    const ended = out(siginfoSize)
    const results = await monitor.run([waitForExit(made.value(born), ended, 0, 0, { step: 'wait for CRIU' })])
    const { code } = exitStatus(results.bytes(ended), Buffer.alloc(0))
    if (code !== 0) {
      const { program, log } = criu
      throw await criuFailed(program, { id, step: 'restore the container', log, output: '' })
    }
    const pid = Number(readFileSync(criu.pidFile, 'utf8'))
    rmSync(criu.pidFile)
    const pidfd = perform(pidfdOpen(pid, { step: 'get hold of the container' }))
    this.pidfd = pidfd
    await monitor.run(watcherCalls(pid))
    const record = { ...facts, pid, startTime: startTimeOf(pid), started: true }
    directory.tellCreated(record)
    directory.tellStarted()
    if (options.pidFile !== undefined) writePidFile(options.pidFile, pid)
    if (hasHooks('poststart', spec, hooks)) await runHooks('poststart', { record, spec, pidfd }, hooks, options.signal)
    return new RuntimeContainer({
      record,
      spec,
      directory,
      plan,
      program: '',
      monitor,
      watching: undefined,
      lent: undefined,
      init: channel,
      pidfd,
      terminal: criu.terminal && deliverTerminal(criu.terminal.take(), options.consoleSocket),
      hooks,
      warnings: plan.warnings,
      parked: false,
      supervision: undefined,
      supervisor: undefined,
    })
  }

  /** Removes all that was made. Errors of it would hide the one that led here. */
  async undo(): Promise<void> {
    await this.channel?.close()
    const { pidfd, monitor } = this
    if (pidfd !== undefined) {
      perform(pidfdSendSignal(pidfd, SIGKILL, { tolerate: 'ESRCH' }))
      await monitor?.run([waitForAnyExit(out(siginfoSize), 0, { tolerate: 'ECHILD' })]).catch(() => {})
      closeSync(pidfd)
    }
    await monitor?.close().catch(() => {})
    const { cgroup } = this.plan
    // A unit of that name that was there before is somebody else's.
    if (cgroup.placement === undefined || this.isPlaced) await removeCgroup(directoriesOf(cgroup)).catch(() => {})
    if (this.isPlaced) await stopScope(cgroup.placement?.scope).catch(() => {})
    await removeResctrl(this.plan.intelRdt.directories).catch(() => {})
    this.directory.remove()
  }

  /** Has systemd make the cgroup for what becomes CRIU, which waits meanwhile; what it makes is born there. */
  private async place(born: number, monitor: Remote): Promise<Results | undefined> {
    const { placement } = this.plan.cgroup
    if (placement === undefined) return undefined
    const { id, signal } = this.options
    await untilAborted(startScope(id, born, placement.scope, placement.properties), signal)
    this.isPlaced = true
    return monitor.run(placement.calls(born))
  }

  private spawn(): { readonly monitor: Remote; readonly channel: Channel } {
    const { options, directory } = this
    const { here, there } = socketPair()
    const channel = new Channel(here, { architecture: hostArchitecture(), outlive: true })
    this.channel = channel
    const descriptors = new Map<number, number>([
      [descriptor.init, there],
      [descriptor.lock, directory.lock],
    ])
    if (this.criu.terminal !== undefined) descriptors.set(descriptor.terminal, this.criu.terminal.slave)
    options.stdio?.forEach((fd, index) => {
      if (fd !== undefined) descriptors.set(index, fd)
    })
    try {
      const monitor = Remote.spawn({ descriptors, outlive: true })
      this.monitor = monitor
      return { monitor, channel }
    } finally {
      closeSync(there)
    }
  }

  private cloneCall(): Call {
    const { v2Descriptor } = this.plan.cgroup
    const options = { step: 'make the process that becomes CRIU', childSocket: descriptor.init }
    if (v2Descriptor === undefined) return clone({ ...options, flags: CLONE.NEWNS })
    return clone({ ...options, flags: CLONE.NEWNS + CLONE.INTO_CGROUP, cgroup: v2Descriptor })
  }

  private async becomeCriu(channel: Channel): Promise<void> {
    const { plan, options, criu } = this
    const why = { step: 'run CRIU' }
    const { overlay, spec } = options
    const where = { path: rootfsOf(options), descriptor: descriptor.root, mounting: 'own' } as const
    const userNamespace = plan.namespaces.has('user')
    const nothing = openat(AT_FDCWD, '/dev/null', O.RDWR, 0, why)
    const calls: readonly Call[] = [
      fcntl(descriptor.init, F_SETFD, FD_CLOEXEC, why),
      close(descriptor.monitor),
      setsid(),
      ...plan.cgroup.join,
      // What CRIU makes is in the class that it is in.
      ...plan.intelRdt.join,
      ...rootfsCalls({
        ...where,
        overlay,
        propagation: spec.linux?.rootfsPropagation,
        userNamespace,
        host: thisHost(),
      }),
      ...criu.namespaces.flatMap(({ path, number }) => {
        const opened = openat(AT_FDCWD, path, O.RDONLY, 0, why)
        return [opened, dup3(opened, number, 0, why), close(opened)]
      }),
      ...criu.streams.flatMap((number, index) => (number === undefined ? [] : [dup3(index, number, 0, why)])),
      ...(criu.terminal === undefined ? [] : [dup3(descriptor.terminal, terminalNumber, 0, why)]),
      nothing,
      ...[0, 1, 2].map((number) => dup3(nothing, number, 0, why)),
      closeRange(descriptor.init + 1, firstForCriu - 1, 0, why),
      closeRange(lastForCriu + 1, 0xffffffff, 0, why),
      execve(criu.program, stringTable(criu.args), stringTable([`PATH=${criuPath}`]), why),
    ]
    // When it is CRIU, its socket is closed.
    await channel.run(calls).catch((cause: unknown) => {
      if (!(cause instanceof RemoteExitError)) throw cause
    })
  }
}
