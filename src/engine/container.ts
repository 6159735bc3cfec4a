import type { Readable, Writable } from 'node:stream'
import { ConflictError, type ExitStatus } from '../errors.ts'
import { delay } from '../internal/abort.ts'
import { type Duration, toMilliseconds } from '../internal/units.ts'
import type { RuntimeContainer } from '../runtime/index.ts'
import { signalNumber } from '../runtime/processes.ts'
import type { WritableLayer } from '../store/index.ts'
import type { Image } from './image.ts'
import type { LogLine } from './line-splitter.ts'
import type { LogOptions, Output } from './output.ts'
import type { RunSettings } from './run-options.ts'
import type { Stdio } from './stdio.ts'

/** How `stop` goes about it. */
export interface StopOptions {
  /** First signal. Default the one of `run`, else the image's, else SIGTERM. */
  readonly signal?: string | number | undefined
  /** Time until SIGKILL. Default the one of `run`, else 10 seconds. */
  readonly timeout?: Duration | undefined
}

/** What `run` hands over. */
export interface ContainerParts {
  readonly name: string
  readonly image: Image
  readonly runtime: RuntimeContainer
  readonly output: Output
  readonly stdio: Stdio
  readonly layer: WritableLayer
  readonly stopSignal: string | number
  readonly settings: Pick<RunSettings, 'stdin' | 'stopTimeout'>
}

/**
 * A running container. It dies with this process, however that ends. What is to outlive it is made with
 * `createContainer` of oci-ts/runtime, which has `detach`.
 */
export class Container implements AsyncDisposable {
  readonly id: string
  /** The name given to `run`, else the first 12 characters of the id. */
  readonly name: string
  readonly image: Image
  /** Its first process, as the host sees it. */
  readonly pid: number
  /** How it ended; all that it wrote has arrived then. Never rejects. */
  readonly exited: Promise<ExitStatus>
  /** What was asked for and could not be given, one sentence each. */
  readonly warnings: readonly string[]
  private readonly parts: ContainerParts
  private stopping: Promise<ExitStatus> | undefined
  private removal: Promise<void> | undefined

  /** @internal */
  constructor(parts: ContainerParts) {
    this.parts = parts
    this.id = parts.runtime.id
    this.name = parts.name
    this.image = parts.image
    this.pid = parts.runtime.pid
    this.warnings = parts.runtime.warnings
    this.exited = this.untilEnd()
  }

  /** Its standard input, when `run` was given `stdin: 'pipe'`; else undefined. */
  get stdin(): Writable | undefined {
    return this.parts.settings.stdin === 'pipe' ? this.parts.stdio.stdin : undefined
  }

  /**
   * Its standard output as bytes, from the first that is kept: from the very first one when it is asked for
   * right after `run`. While it is open and not read, the container waits when the pipe is full.
   */
  get stdout(): Readable {
    return this.parts.output.stream('stdout')
  }

  /** Its standard error as bytes; see {@link stdout}. */
  get stderr(): Readable {
    return this.parts.output.stream('stderr')
  }

  /**
   * The lines it wrote, from its birth on, as far as they are kept (the latest 16 MiB by default). With
   * `follow` also those still to come; the iteration ends with the container. Works after its end as well.
   * @throws InvalidArgumentError for options that can't be used.
   */
  logs(options?: LogOptions): AsyncIterable<LogLine> {
    return this.parts.output.lines(options)
  }

  /**
   * Sends a signal to its first process: a number, `SIGTERM` or `TERM`. Default SIGKILL, as with Docker.
   * @throws ConflictError when it has ended. @throws InvalidArgumentError for what is no signal.
   */
  async kill(signal: string | number = 'SIGKILL'): Promise<void> {
    this.parts.runtime.kill(signal)
  }

  /**
   * Asks it to end, and kills it when it does not in time; resolves with how it ended. Idempotent: further
   * calls join the first one.
   * @throws InvalidArgumentError for options that can't be used.
   */
  stop(options: StopOptions = {}): Promise<ExitStatus> {
    this.stopping ??= this.stopNow(options).catch((error: unknown) => {
      this.stopping = undefined
      throw error
    })
    return this.stopping
  }

  /**
   * Removes it with its changes to the file system. It is killed when it runs: at once, without `stop`.
   * Idempotent. What it wrote can still be read.
   */
  remove(): Promise<void> {
    this.removal ??= this.removeNow().catch((error: unknown) => {
      this.removal = undefined
      throw error
    })
    return this.removal
  }

  /** The same as {@link remove}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.remove()
  }

  private async untilEnd(): Promise<ExitStatus> {
    const { runtime, output, stdio } = this.parts
    const status = await runtime.exited
    // Nobody reads it any more.
    stdio.stdin?.destroy()
    await output.finish()
    return status
  }

  private async stopNow(options: StopOptions): Promise<ExitStatus> {
    const { runtime, stopSignal, settings } = this.parts
    const { timeout = settings.stopTimeout, signal = stopSignal } = options
    const patience = toMilliseconds(timeout, 'timeout')
    signalNumber(signal)
    this.signalUnlessEnded(signal)
    const timer = new AbortController()
    await Promise.race([runtime.exited, delay(patience, timer.signal).catch(() => {})])
    timer.abort()
    this.signalUnlessEnded('SIGKILL')
    return this.exited
  }

  private signalUnlessEnded(signal: string | number): void {
    try {
      this.parts.runtime.kill(signal)
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error
    }
  }

  private async removeNow(): Promise<void> {
    const { runtime, stdio, layer } = this.parts
    await runtime.delete({ force: true })
    await this.exited
    stdio.close()
    await layer.remove()
  }
}
