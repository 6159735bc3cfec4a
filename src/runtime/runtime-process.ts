import { closeSync } from 'node:fs'
import { ConflictError } from '../errors.ts'
import { type Call, out } from '../linux/call.ts'
import { AT_FDCWD, AT_REMOVEDIR, dup3, O, unlinkat } from '../linux/calls/files.ts'
import {
  POLLIN,
  POLLRDHUP,
  pidfdOpen,
  pidfdSendSignal,
  rusageSize,
  SIGKILL,
  siginfoSize,
  WNOWAIT,
  waitForEvent,
  waitForExit,
} from '../linux/calls/processes.ts'
import { perform } from '../linux/local.ts'
import type { Remote } from '../linux/remote/remote.ts'
import { descriptor } from './descriptors.ts'
import { execDescriptor } from './exec-plan.ts'
import { exitStatus, killedWithMonitor } from './exit.ts'
import { signalNumber } from './processes.ts'
import { type ResourceUsage, resourceUsage } from './resource-usage.ts'
import type { Terminal } from './terminal.ts'

/** How a further process of a container ended. */
export interface ProcessStatus {
  /** Exit code 0 to 255; 128 + n when signal n ended it. */
  readonly code: number
  /** Name of the signal that ended it. */
  readonly signal: NodeJS.Signals | undefined
  /** What it used; undefined when its monitor was killed. */
  readonly usage: ResourceUsage | undefined
}

/** What an exec hands over. */
export interface ProcessParts {
  /** Id of its container. */
  readonly id: string
  readonly pid: number
  readonly pidfd: number
  readonly monitor: Remote
  readonly outlive: boolean
  /** Whether whoever runs this process is to learn of its end. */
  readonly handOver: boolean
  /** Directories of cgroups that were made for it. */
  readonly subCgroups: readonly string[]
  readonly terminal: Terminal | undefined
}

/** A further process of a container, that this process has made. */
export class RuntimeProcess implements AsyncDisposable {
  /** As the host sees it. */
  readonly pid: number
  /** How it ended. Never rejects. */
  readonly exited: Promise<ProcessStatus>
  /** Its terminal, when it has one that was not given to somebody else. */
  readonly terminal: Terminal | undefined
  private readonly parts: ProcessParts
  private isOpen = true
  private released = false

  /** @internal */
  constructor(parts: ProcessParts) {
    this.parts = parts
    this.pid = parts.pid
    this.terminal = parts.terminal
    this.exited = this.watch()
  }

  /**
   * Sends it a signal: a number, `SIGTERM` or `TERM`.
   * @throws ConflictError when it has ended. @throws InvalidArgumentError for what is no signal.
   */
  kill(signal: string | number = 'SIGTERM'): void {
    const number = signalNumber(signal)
    if (!this.signal(number)) {
      throw new ConflictError(this.parts.id, `process ${this.pid} of container ${this.parts.id} has ended`)
    }
  }

  /**
   * Lets go of a process that was made with `detach` or `handOver`: it no longer keeps this one alive, and `exited`
   * does not tell of its end any more.
   * @throws ConflictError for a process that ends with this one.
   */
  async release(): Promise<void> {
    const { monitor, outlive, handOver, id } = this.parts
    if (!outlive) {
      throw new ConflictError(
        id,
        `process ${this.pid} of container ${id} ends with this one: it was not made with detach`,
      )
    }
    this.released = true
    if (handOver) await monitor.close()
    else await monitor.release()
  }

  /** Kills it when it runs, and waits for its end. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.signal(SIGKILL)
    await this.exited
  }

  private async watch(): Promise<ProcessStatus> {
    const { monitor, outlive, handOver, pid, subCgroups } = this.parts
    const siginfo = out(siginfoSize)
    const rusage = out(rusageSize)
    let status: ProcessStatus = { ...killedWithMonitor, usage: undefined }
    try {
      const results = await monitor.run([
        ...(outlive ? [] : endWithMaker(pid)),
        waitForExit(pid, siginfo, rusage, handOver ? WNOWAIT : 0, { step: 'wait for the process' }),
        ...subCgroups.map(removeDirectory),
      ])
      const { code, signal } = exitStatus(results.bytes(siginfo), Buffer.alloc(0))
      status = { code, signal, usage: resourceUsage(results.bytes(rusage)) }
      monitor.dismiss()
    } catch {
      // Whoever has let go of it does not hear of its end.
      if (this.released) {
        this.terminal?.finish()
        this.close()
        return new Promise(() => {})
      }
      this.signal(SIGKILL)
      monitor.dismiss()
    }
    this.terminal?.finish()
    this.close()
    return status
  }

  private close(): void {
    this.isOpen = false
    closeSync(this.parts.pidfd)
  }

  /** @returns false when it has ended. */
  private signal(number: number): boolean {
    if (!this.isOpen) return false
    return perform(pidfdSendSignal(this.parts.pidfd, number, { tolerate: 'ESRCH' })) === 0
  }
}

/** Kills the process when its maker is gone; a change of ids may have cleared its own parent-death signal. */
function endWithMaker(pid: number): readonly Call[] {
  const step = 'wait for the process'
  const pidfd = pidfdOpen(pid, { step })
  const ends = [
    { fd: execDescriptor.process, events: POLLIN },
    { fd: descriptor.monitor, events: POLLRDHUP },
  ]
  return [
    pidfd,
    dup3(pidfd, execDescriptor.process, O.CLOEXEC, { step }),
    waitForEvent(ends, { step }),
    pidfdSendSignal(execDescriptor.process, SIGKILL, { tolerate: 'any' }),
  ]
}

/** Removes the directory of a cgroup when nobody is in it any more. */
export function removeDirectory(path: string): Call {
  return unlinkat(AT_FDCWD, path, AT_REMOVEDIR, { tolerate: 'any' })
}
