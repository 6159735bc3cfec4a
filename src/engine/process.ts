import { Readable, type Writable } from 'node:stream'
import { ConflictError } from '../errors.ts'
import { delay } from '../internal/abort.ts'
import type { ProcessStatus, RuntimeProcess } from '../runtime/index.ts'
import type { Stdio } from './stdio.ts'

/** How long the pipes may stay open after the end of the program, where others hold them. Milliseconds. */
const patience = 1000

/** A program that was started in a container by `Container.spawn`. It ends with this process. */
export class ContainerProcess implements AsyncDisposable {
  /** As the host sees it. */
  readonly pid: number
  /** Its standard input, when it was given `stdin: 'pipe'` or `tty`; else undefined. */
  readonly stdin: Writable | undefined
  /** Its standard output; with `tty` all that it shows. The program waits when it is not read. */
  readonly stdout: Readable
  /** Its standard error; empty with `tty`. */
  readonly stderr: Readable
  /** How it ended. Never rejects. What it wrote may still be in the streams. */
  readonly exited: Promise<ProcessStatus>
  private readonly runtime: RuntimeProcess
  private readonly stdio: Stdio | undefined

  /** @internal */
  constructor(runtime: RuntimeProcess, stdio: Stdio | undefined) {
    const { terminal } = runtime
    this.runtime = runtime
    this.stdio = stdio
    this.pid = runtime.pid
    this.stdin = terminal ?? stdio?.stdin
    this.stdout = terminal ?? stdio?.outputs.get('stdout') ?? Readable.from([])
    this.stderr = stdio?.outputs.get('stderr') ?? Readable.from([])
    this.exited = runtime.exited.finally(() => {
      // Nobody reads it any more.
      if (terminal === undefined) this.stdin?.destroy()
    })
  }

  /**
   * Sends it a signal: a number, `SIGTERM` or `TERM`. Default SIGTERM.
   * @throws ConflictError when it has ended. @throws InvalidArgumentError for what is no signal.
   */
  kill(signal: string | number = 'SIGTERM'): void {
    this.runtime.kill(signal)
  }

  /**
   * Tells it the size of its terminal, in characters.
   * @throws ConflictError when it has none, or has ended. @throws InvalidArgumentError for what is no size.
   */
  resize(columns: number, rows: number): void {
    const { terminal } = this.runtime
    if (terminal === undefined) throw new ConflictError(String(this.pid), `process ${this.pid} has no terminal`)
    terminal.resize(columns, rows)
  }

  /** Kills it when it runs, waits for its end and closes its streams. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.runtime[Symbol.asyncDispose]()
    this.runtime.terminal?.destroy()
    this.stdio?.close()
  }

  /** Resolves when the outputs have ended, or a second after the program has. @internal */
  async drained(): Promise<void> {
    await this.exited
    const late = new AbortController()
    const ends = [this.stdout, this.stderr].map((output) => ended(output))
    await Promise.race([Promise.all(ends), delay(patience, late.signal).catch(() => {})])
    late.abort()
  }
}

function ended(output: Readable): Promise<void> {
  return new Promise((resolve) => {
    if (output.readableEnded || output.destroyed) resolve()
    else output.once('close', resolve).once('end', resolve)
  })
}
