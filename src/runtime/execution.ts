import { closeSync } from 'node:fs'
import { RemoteExitError, SyscallError } from '../errors.ts'
import { delay, onAbort } from '../internal/abort.ts'
import { type Settled, settled, unsettled } from '../internal/settled.ts'
import { hostArchitecture } from '../linux/architecture.ts'
import { type Call, out } from '../linux/call.ts'
import { pidfdOpen, pidfdSendSignal, SIGKILL, siginfoSize, waitForAnyExit } from '../linux/calls/processes.ts'
import { syscallError } from '../linux/errno.ts'
import { perform } from '../linux/local.ts'
import { Channel } from '../linux/remote/channel.ts'
import { Remote, socketPair } from '../linux/remote/remote.ts'
import type { Results } from '../linux/runner.ts'
import { sendPidfd } from './descriptor-socket.ts'
import { type ExecOptions, type ExecProcess, type ExecTarget, notRunning, outlives } from './exec.ts'
import { type ExecPlan, execDescriptor } from './exec-plan.ts'
import { noProgram } from './no-program.ts'
import { writePidFile } from './pid-file.ts'
import { RuntimeProcess, removeDirectory } from './runtime-process.ts'
import { connectListener } from './seccomp-listener.ts'
import { stepFailed } from './step-error.ts'
import type { FilterServer } from './syscalls/filter-server.ts'
import type { Terminal } from './terminal.ts'
import { TerminalLink } from './terminal-link.ts'

/** How long processes that were killed may take to be gone, in milliseconds. */
const patience = 2000

/** The making of one further process: what has been made so far, so that it can be undone. */
export class Execution {
  private readonly target: ExecTarget
  private readonly plan: ExecPlan
  private readonly given: ExecProcess
  private readonly options: ExecOptions
  private monitor: Remote | undefined
  private joiner: Channel | undefined
  private process: Channel | undefined
  private joining: Promise<Settled<Results>> | undefined
  private pidfd: number | undefined
  private link: TerminalLink | undefined
  private terminal: Terminal | undefined
  private supervisor: FilterServer | undefined

  constructor(target: ExecTarget, plan: ExecPlan, given: ExecProcess, options: ExecOptions) {
    this.target = target
    this.plan = plan
    this.given = given
    this.options = options
  }

  /** Makes the process. @throws what `exec` throws; nothing is left behind. */
  async run(): Promise<RuntimeProcess> {
    const { signal } = this.options
    const unlink = onAbort(signal, () => this.interrupt())
    try {
      return await this.make()
    } catch (cause) {
      await this.undo()
      signal?.throwIfAborted()
      throw this.failure(cause)
    } finally {
      unlink()
      this.link?.close()
    }
  }

  private async make(): Promise<RuntimeProcess> {
    const { plan, options } = this
    const { monitor, joiner, process } = this.spawn()
    const cloning = settled(monitor.run(plan.monitor))
    // Handed over before there is anybody to read it: each process finds it when it is born.
    const joining = settled(joiner.run(plan.joiner))
    this.joining = joining
    const early = plan.listener === undefined ? settled(process.become(plan.become(0))) : undefined
    const joined = await this.untilJoined(cloning, joining)
    const pid = joined.value(plan.clone)
    this.terminal = this.link?.receive(options.consoleSocket)
    const becoming = early ?? this.become(process, plan.become(pid))
    this.pidfd = perform(pidfdOpen(pid, { step: 'get hold of the process' }))
    // It has nothing left to do, and ends; the monitor waits for that.
    await joiner.close()
    const made = unsettled(await cloning)
    const outcome = unsettled(await becoming)
    // When it is the program, its socket is closed.
    if (outcome !== undefined) throw this.noneExecuted(joined, outcome)
    options.signal?.throwIfAborted()
    if (options.pidFile !== undefined) writePidFile(options.pidFile, pid)
    sendPidfd(options.pidfdSocket, this.pidfd, 'setns')
    const subCgroups = plan.subCgroups
      .filter(({ made: call }) => (plan.monitor.includes(call) ? made : joined).value(call) === 0)
      .map(({ path }) => path)
    return new RuntimeProcess({
      id: this.target.record.id,
      pid,
      pidfd: this.pidfd,
      monitor,
      outlive: outlives(options),
      handOver: options.handOver === true,
      subCgroups,
      terminal: this.terminal,
    })
  }

  private become(process: Channel, calls: readonly Call[]): Promise<Settled<Results | undefined>> {
    if (this.supervisor !== undefined) this.target.supervision?.passOver(this.supervisor, calls)
    return settled(process.become(calls))
  }

  /** What the joiner answers; when there is none, because it was not made, why not. */
  private async untilJoined(cloning: Promise<Settled<Results>>, joining: Promise<Settled<Results>>): Promise<Results> {
    void cloning.then((outcome) => {
      if ('error' in outcome) void this.joiner?.close()
    })
    const joined = await joining
    if ('error' in joined && joined.error instanceof RemoteExitError) {
      await this.joiner?.close()
      unsettled(await cloning)
    }
    return unsettled(joined)
  }

  private spawn(): { readonly monitor: Remote; readonly joiner: Channel; readonly process: Channel } {
    const { stdio, preserveFds = 0 } = this.options
    const pairs = [socketPair()]
    let agent: number | undefined
    try {
      pairs.push(socketPair())
      const [joinerPair, processPair] = pairs as [(typeof pairs)[0], (typeof pairs)[0]]
      const options = { architecture: hostArchitecture(), outlive: outlives(this.options) }
      const joiner = new Channel(joinerPair.here, options)
      const process = new Channel(processPair.here, options)
      this.joiner = joiner
      this.process = process
      const descriptors = new Map<number, number>([
        [execDescriptor.container, this.target.pidfd],
        [execDescriptor.joiner, joinerPair.there],
        [execDescriptor.become, processPair.there],
      ])
      if (this.plan.listener !== undefined) {
        const { supervision, spec } = this.target
        this.supervisor = supervision?.open({ ...spec.process, ...this.given })
        agent = this.supervisor?.takeSocket() ?? connectListener(spec.linux?.seccomp?.listenerPath ?? '')
        descriptors.set(this.plan.listener, agent)
      }
      stdio?.forEach((fd, index) => {
        if (fd !== undefined) descriptors.set(index, fd)
      })
      if (this.given.terminal === true) {
        this.link = new TerminalLink()
        descriptors.set(execDescriptor.terminal, this.link.there)
      }
      for (let index = 0; index < preserveFds; index++) descriptors.set(execDescriptor.preserved + index, 3 + index)
      // It outlives this process always: by as long as it takes to end what it has made.
      this.monitor = Remote.spawn({ descriptors, outlive: true })
      return { monitor: this.monitor, joiner, process }
    } finally {
      for (const { there } of pairs) closeSync(there)
      this.link?.handOver()
      if (agent !== undefined) closeSync(agent)
    }
  }

  /** Why no program was executed: those that were there say more than those that were not. */
  private noneExecuted(joined: Results, became: Results): unknown {
    const { plan } = this
    const found = plan.lookups.map((call) => joined.value(call))
    const execution = plan.executions[found.indexOf(0)]
    if (execution !== undefined) return syscallError(execution, -became.value(execution))
    return noProgram(this.target.record.id, this.given.args[0] ?? '', plan.programs, found)
  }

  private failure(cause: unknown): unknown {
    const { id } = this.target.record
    const ended = cause instanceof SyscallError && cause.syscall === 'setns' && cause.errnoName === 'ESRCH'
    return ended ? notRunning(id) : stepFailed(id, cause)
  }

  /** Ends what goes on in the new process. What waits for it then fails. */
  private interrupt(): void {
    if (this.pidfd !== undefined) perform(pidfdSendSignal(this.pidfd, SIGKILL, { tolerate: 'ESRCH' }))
  }

  /** Removes all that was made. Errors of it would hide the one that led here. */
  private async undo(): Promise<void> {
    const { monitor } = this
    await this.process?.close()
    // It may be about to make the process, which then has to be killed; one in a frozen cgroup does not answer.
    const joined = this.joining === undefined ? undefined : await inTime(this.joining)
    if (joined !== undefined && 'value' in joined) {
      const pid = joined.value.value(this.plan.clone)
      this.pidfd ??= perform(pidfdOpen(pid))
    }
    this.interrupt()
    this.terminal?.destroy()
    await this.supervisor?.close()
    await this.joiner?.close()
    if (monitor !== undefined) {
      // Joiner and process have no batch left and end; their parent alone can tell when.
      const ends = [0, 1].map(() => waitForAnyExit(out(siginfoSize), 0, { tolerate: 'ECHILD' }))
      const removals = this.plan.subCgroups.map(({ path }) => removeDirectory(path))
      await inTime(settled(monitor.run([...ends, ...removals])))
      await monitor.close().catch(() => {})
    }
    if (this.pidfd !== undefined) closeSync(this.pidfd)
  }
}

/** What a promise resolves with; undefined when that takes too long. */
async function inTime<T>(promise: Promise<T>): Promise<T | undefined> {
  const late = new AbortController()
  const first = await Promise.race([promise, delay(patience, late.signal).catch(() => undefined)])
  late.abort()
  return first ?? undefined
}
