import type { Readable, Writable } from 'node:stream'
import { ConflictError, type ExitStatus } from '../errors.ts'
import { delay } from '../internal/abort.ts'
import { type Duration, toMilliseconds } from '../internal/units.ts'
import type { RuntimeContainer } from '../runtime/index.ts'
import type { WritableLayer } from '../store/index.ts'
import type { Image } from './image.ts'
import type { LogLine, LogOptions, Output } from './output.ts'
import type { Stdio } from './stdio.ts'

/** How `stop` goes about it. */
export interface StopOptions {
  /** First signal. Default the one of `run`, else the image's, else SIGTERM. */
  readonly signal?: string | number
  /** Time until SIGKILL. Default the one of `run`, else 10 seconds. */
  readonly timeout?: Duration
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
  /** Milliseconds. */
  readonly stopTimeout: number
}

/** A running container. It dies with this process, unless it was started with `detach`. */
export class Container implements AsyncDisposable {
  readonly id: string
  /** The name given to `run`, else the first 12 characters of the id. */
  readonly name: string
  readonly image: Image
  /** Its first process, as the host sees it. */
  readonly pid: number
  /** How it ended. Never rejects. */
  readonly exited: Promise<ExitStatus>
  /** What was asked for and could not be given, one sentence each. */
  readonly warnings: readonly string[]
  private readonly parts: ContainerParts
  private ended = false
  private stopping: Promise<ExitStatus> | undefined
  private removal: Promise<void> | undefined

  /** @internal */
  constructor(parts: ContainerParts) {
    this.parts = parts
    this.id = parts.runtime.id
    this.name = parts.name
    this.image = parts.image
    this.pid = parts.runtime.pid
    this.exited = parts.runtime.exited
    this.warnings = parts.runtime.warnings
    void this.exited.then(() => {
      this.ended = true
    })
  }

  /** Its standard input, when `run` was given `stdin: 'pipe'`; else undefined. */
  get stdin(): Writable | undefined {
    return this.parts.stdio.stdin
  }

  /** Its standard output as bytes. While it is open and not read, the container waits when the pipe is full. */
  get stdout(): Readable {
    return this.parts.output.stream('stdout')
  }

  /** Its standard error as bytes; see {@link stdout}. */
  get stderr(): Readable {
    return this.parts.output.stream('stderr')
  }

  /**
   * The lines it wrote, from its birth on, as far as they are kept (the latest 16 MiB by default). With
   * `follow` also those still to come; the iteration ends with the container.
   */
  logs(options?: LogOptions): AsyncIterable<LogLine> {
    return this.parts.output.lines(options)
  }

  /**
   * Sends a signal to its first process: a number, `SIGTERM` or `TERM`. Default SIGKILL, as with Docker.
   * @throws ConflictError when it has ended.
   */
  async kill(signal: string | number = 'SIGKILL'): Promise<void> {
    this.parts.runtime.kill(signal)
  }

  /** Asks it to end, and kills it when it does not in time. Idempotent; resolves with how it ended. */
  stop(options: StopOptions = {}): Promise<ExitStatus> {
    this.stopping ??= this.stopNow(options)
    return this.stopping
  }

  /**
   * Removes it with its changes to the file system. It is killed when it runs: at once, without `stop`.
   * Idempotent.
   */
  remove(): Promise<void> {
    this.removal ??= this.removeNow()
    return this.removal
  }

  /** The same as {@link remove}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.remove()
  }

  private async stopNow(options: StopOptions): Promise<ExitStatus> {
    const { stopSignal, stopTimeout } = this.parts
    const patience = options.timeout === undefined ? stopTimeout : toMilliseconds(options.timeout, 'timeout')
    this.signalUnlessEnded(options.signal ?? stopSignal)
    const timer = new AbortController()
    await Promise.race([this.exited, delay(patience, timer.signal).catch(() => {})])
    timer.abort()
    if (!this.ended) this.signalUnlessEnded('SIGKILL')
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
    const { runtime, output, stdio, layer } = this.parts
    await runtime.delete({ force: true })
    // What it wrote last may still be in the pipes; what a joined namespace keeps alive must not hold us.
    await Promise.race([output.ended(), delay(1000)])
    stdio.close()
    await layer.remove()
  }
}
