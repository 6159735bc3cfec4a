import { closeSync } from 'node:fs'
import type { ExitStatus } from '../errors.ts'
import { onAbort } from '../internal/abort.ts'
import { sendDescriptors } from '../linux/calls/sockets.ts'
import { perform } from '../linux/local.ts'
import type { RuntimeContainer } from './container.ts'
import type { Plan } from './plan.ts'
import { type PoolProcess, type PoolRunOptions, plannedRun, whyNone } from './run-plan.ts'

/** A created container whose first process has not been told yet what to run. */
export class ParkedContainer {
  readonly container: RuntimeContainer
  private readonly plan: Plan
  /** This end of the socket by which the standard streams are handed over. */
  private readonly socket: number
  private isOpen = true

  /** Takes over `socket`. */
  constructor(container: RuntimeContainer, plan: Plan, socket: number) {
    this.container = container
    this.plan = plan
    this.socket = socket
  }

  /** Resolves when it can't be used any more. */
  get ended(): Promise<ExitStatus> {
    return this.container.exited
  }

  /**
   * Runs a program in it; resolves when the kernel has accepted it. To be called once.
   * @returns undefined when what was done early does not allow that; it is deleted then.
   * @throws what `start` of the container throws; the container is deleted then.
   */
  async run(given: PoolProcess, options: PoolRunOptions): Promise<RuntimeContainer | undefined> {
    const { container } = this
    const { signal, hostname, stdio = [] } = options
    const unlink = onAbort(signal, () => void container.delete({ force: true }).catch(() => {}))
    try {
      const streams = stdio.flatMap((fd, stream) => (fd === undefined ? [] : [{ fd, stream }]))
      const run = plannedRun(container, given, {
        hostname,
        streams: streams.map(({ stream }) => stream),
        socket: this.plan.channel + 1,
        context: this.plan.context,
        early: this.plan.early,
        pid: container.pid,
      })
      if (!run.isPossible) {
        await this.remove()
        return undefined
      }
      signal?.throwIfAborted()
      if (streams.length > 0) {
        const descriptors = streams.map(({ fd }) => fd)
        perform(sendDescriptors(this.socket, ' ', descriptors, { step: 'hand over the standard streams' }))
      }
      const started = container.startWith(run.calls, {
        ...run,
        noneExecuted: (results) => whyNone(container.id, run, results),
      })
      this.close()
      await started
      signal?.throwIfAborted()
      return container
    } catch (cause) {
      await this.remove().catch(() => {})
      signal?.throwIfAborted()
      throw cause
    } finally {
      unlink()
    }
  }

  /** Deletes the container. Idempotent. */
  async remove(): Promise<void> {
    this.close()
    await this.container.delete({ force: true })
  }

  private close(): void {
    if (this.isOpen) closeSync(this.socket)
    this.isOpen = false
  }
}
