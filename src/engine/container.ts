import type { Readable, Writable } from 'node:stream'
import { type LimitOptions, specLimits } from '../bundle/resources.ts'
import type { Mount } from '../bundle/spec.ts'
import { ConflictError, type ExitStatus, NotFoundError } from '../errors.ts'
import type { ExecutionConfig } from '../image/config.ts'
import { delay } from '../internal/abort.ts'
import { type Duration, toMilliseconds } from '../internal/units.ts'
import type {
  AuditFinding,
  ContainerEvent,
  ContainerStats,
  EventsOptions,
  ProcessInfo,
  ResourceUsage,
} from '../runtime/index.ts'
import { signalNumber } from '../runtime/processes.ts'
import {
  argvArgument,
  limitsArgument,
  mountArgument,
  optionsArgument,
  sourceArgument,
  targetArgument,
  textArgument,
} from './arguments.ts'
import type { CopyFilesOptions } from './container-files.ts'
import { execIn, spawnIn } from './exec.ts'
import type { ExecOptions, ExecResult, SpawnOptions } from './exec-options.ts'
import type { FileChange } from './file-changes.ts'
import type { Image } from './image.ts'
import type { LogLine } from './line-splitter.ts'
import type { LogOptions } from './output.ts'
import type { ContainerProcess } from './process.ts'
import type { Runner } from './runner.ts'
import { type UsageSample, usageBetween } from './usage-sample.ts'

/** How `stop` goes about it. */
export interface StopOptions {
  /** First signal. Default the one of `run`, else the image's, else SIGTERM. */
  readonly signal?: string | number | undefined
  /** Time until SIGKILL. Default the one of `run`, else 10 seconds. */
  readonly timeout?: Duration | undefined
}

/** Whom `kill` reaches. */
export interface KillOptions {
  /**
   * Whether the signal goes to every process, those included that were left when the first one ended: they share its
   * cgroup, which an ordinary user may not have. Default false.
   */
  readonly all?: boolean | undefined
}

/** How `watchStats` measures. */
export interface StatsOptions {
  /** Time between two samples. Default 1 second. */
  readonly interval?: Duration | undefined
  /** Aborting ends the iteration; it does not throw. */
  readonly signal?: AbortSignal | undefined
}

/** What a handle is made of. */
export interface ContainerParts {
  readonly name: string
  readonly image: Image
  /** The image's config with what was given to `run`. */
  readonly execution: ExecutionConfig
  readonly runner: Runner
  readonly stopSignal: string | number
  /** Milliseconds. */
  readonly stopTimeout: number
}

/**
 * A container. Unless it was run with `detach` it dies with this process, however that ends. A detached one
 * goes on; all handles to it, of whatever process, do the same.
 */
export class Container implements AsyncDisposable {
  readonly id: string
  /** The name given to `run`, else the first 12 characters of the id. */
  readonly name: string
  readonly image: Image
  /** Its first process, as the host sees it; 0 when it was attached to after a restart of the machine. */
  readonly pid: number
  /** What was asked for and could not be given, one sentence each; told to the process that ran it only. */
  readonly warnings: readonly string[]
  /** @internal */
  readonly runner: Runner
  /** @internal */
  readonly execution: ExecutionConfig
  private readonly parts: ContainerParts
  private stopping: Promise<ExitStatus> | undefined
  private removal: Promise<void> | undefined

  /** @internal */
  constructor(parts: ContainerParts) {
    const { runner } = parts
    this.parts = parts
    this.runner = runner
    this.execution = parts.execution
    this.id = runner.id
    this.name = parts.name
    this.image = parts.image
    this.pid = runner.pid
    this.warnings = runner.warnings
  }

  /**
   * How it ended; all that it wrote has arrived then. Never rejects. A detached container that another process
   * has removed, or a restart of the machine has ended, counts as killed; asking for the end of a
   * detached one keeps this process alive until then.
   */
  get exited(): Promise<ExitStatus> {
    return this.runner.exited
  }

  /** Its standard input, when `run` was given `stdin: 'pipe'` or `tty`; else undefined. */
  get stdin(): Writable | undefined {
    return this.runner.stdin
  }

  /**
   * Its standard output as bytes, from the first that is kept: from the very first one when it is asked for
   * right after `run`. While it is open and not read, the container waits when the pipe is full. Of a detached container it is the file, from
   * its beginning: nobody waits.
   */
  get stdout(): Readable {
    return this.runner.output.stream('stdout')
  }

  /** Its standard error as bytes; see {@link stdout}. */
  get stderr(): Readable {
    return this.runner.output.stream('stderr')
  }

  /**
   * The lines it wrote, from its birth on, as far as they are kept (the latest 16 MiB by default). With
   * `follow` also those still to come; the iteration ends with the container. Works after its end as well.
   * Of a detached container all is kept, in files that do not tell which output was written to first:
   * what was there before the call comes one output after the other.
   * @throws InvalidArgumentError for options that can't be used.
   */
  logs(options?: LogOptions): AsyncIterable<LogLine> {
    return this.runner.output.lines(optionsArgument(options))
  }

  /**
   * Sends a signal to its first process: a number, `SIGTERM` or `TERM`. Default SIGKILL, as with Docker.
   * @throws ConflictError when it has ended; with `all`, when no process is left. @throws InvalidArgumentError for what is
   * no signal. @throws NotFoundError for a detached container that has been removed.
   */
  async kill(signal: string | number = 'SIGKILL', options: KillOptions = {}): Promise<void> {
    if (optionsArgument(options).all === true) await this.runner.live.killAll(signal)
    else await this.runner.kill(signal)
  }

  /**
   * What it has changed of its image's files, in the order of their names; what a directory that was made anew has lost comes
   * behind it. A directory has changed when something in it has. Works while it runs and after its end.
   * @throws NotFoundError when it has been removed.
   */
  async *diff(): AsyncGenerator<FileChange, void, undefined> {
    yield* (await import('./container-files.ts')).containerChanges(this.runner)
  }

  /**
   * Copies a file or directory of the host into it, as `docker cp` does: into `path` when that is a directory, else to that name;
   * with `/.` at the end of `source` only what is in the directory. A stream is a tar archive (also compressed), for the
   * directory `path`. Symlinks on the way are followed inside of the container only, whatever its processes do
   * meanwhile. Works while it runs, volumes included, and after its end, then without them.
   * @throws NotFoundError, ConflictError for paths that do not fit; LayerError, LimitError for an archive.
   */
  async copyIn(source: string | Readable, path: string, options: CopyFilesOptions = {}): Promise<void> {
    await (await import('./container-files.ts')).copyIn(
      this.runner,
      sourceArgument(source),
      path,
      optionsArgument(options),
    )
  }

  /**
   * Copies a file or directory out of it, as `docker cp` does: into `target` when that is a directory of the host, else to that
   * name; with `/.` at the end of `path` only what is in the directory. To a stream it goes as a tar archive. Nothing in the
   * container leads out of it, or out of `target`. See {@link copyIn}.
   * @throws NotFoundError, ConflictError for paths that do not fit.
   */
  async copyOut(path: string, target: string | Writable, options: CopyFilesOptions = {}): Promise<void> {
    await (await import('./container-files.ts')).copyOut(
      this.runner,
      path,
      targetArgument(target),
      optionsArgument(options),
    )
  }

  /**
   * All its files as a tar archive, as `docker export` has it: without what is mounted in it. Works while it runs
   * and after its end. Nothing is opened before it is read: one that is not need not be destroyed.
   * @throws NotFoundError when it has been removed.
   */
  async exportRootfs(): Promise<Readable> {
    return (await import('./container-files.ts')).exportContainer(this.runner)
  }

  /**
   * Runs a program in it to its end, and collects what it writes.
   * @param argv The program and its arguments; no shell is involved.
   * @throws RuntimeError when it can't be run: not found, no permission. @throws ConflictError when the container is
   * not running. @throws ExecError, which has the shape of the result, when its time is over, when it writes too much,
   * and, with `check`, for an exit code that is not 0. @throws InvalidArgumentError, NotFoundError for options that
   * can't be used. @throws `signal.reason` when aborted.
   */
  async exec(argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    return execIn(this.runner, argvArgument(argv), optionsArgument(options))
  }

  /**
   * Starts a program in it, with streams. Resolves when the kernel has accepted it. It ends with this process at
   * the latest.
   * @param argv The program and its arguments; no shell is involved.
   * @throws as {@link exec} does, but for what comes after the start.
   */
  async spawn(argv: readonly string[], options: SpawnOptions = {}): Promise<ContainerProcess> {
    return spawnIn(this.runner, argvArgument(argv), optionsArgument(options))
  }

  /**
   * Tells its program the size of its terminal, in characters.
   * @throws ConflictError unless it was run with `tty` by this process and still runs. @throws InvalidArgumentError for
   * what is no size.
   */
  resize(columns: number, rows: number): void {
    this.runner.resize(columns, rows)
  }

  /**
   * Stops all its processes where they are, until {@link resume}.
   * @throws ConflictError when it does not run, or is paused. @throws UnsupportedError for an ordinary user without a
   * cgroup of its own.
   */
  async pause(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    return this.runner.live.pause(optionsArgument(options))
  }

  /** Lets its processes go on. @throws ConflictError when it is not paused. */
  resume(): Promise<void> {
    return this.runner.live.resume()
  }

  /**
   * Changes its limits while it runs; what is not given stays as it is. All of them or none.
   * @throws ConflictError when it does not run. @throws InvalidArgumentError for options that can't be used.
   * @throws RuntimeError when the kernel refuses one. @throws UnsupportedError for what this host can't limit.
   */
  async update(limits: LimitOptions): Promise<void> {
    await this.runner.live.update(specLimits(limitsArgument(limits)))
  }

  /**
   * What it uses, as `docker stats` shows it.
   * @param options.over Time over which the processors are watched. Default 100 ms.
   * @throws ConflictError when it does not run.
   */
  async stats(options: { readonly over?: Duration } = {}): Promise<UsageSample> {
    const { live } = this.runner
    const over = toMilliseconds(optionsArgument(options).over ?? '100ms', 'over')
    const before = await live.stats()
    await delay(over)
    return usageBetween(before, await live.stats())
  }

  /**
   * What it uses, again and again until it ends.
   * @throws ConflictError when it does not run.
   */
  async *watchStats(options: StatsOptions = {}): AsyncGenerator<UsageSample, void, void> {
    const { interval = '1s', signal } = optionsArgument(options)
    let before: ContainerStats | undefined
    for await (const event of this.runner.live.events({ interval, signal })) {
      if (event.type !== 'stats') continue
      if (before !== undefined) yield usageBetween(before, event.stats)
      before = event.stats
    }
  }

  /**
   * What it used in its life: its program, and the processes that this waited for. Waits for its end. Undefined when it was
   * killed in such a way that nobody can tell.
   * @throws NotFoundError for a detached container that has been removed.
   */
  usage(): Promise<ResourceUsage | undefined> {
    return this.runner.live.usage()
  }

  /** Its processes, by pid. @throws ConflictError when it does not run. */
  top(): Promise<readonly ProcessInfo[]> {
    return this.runner.live.top()
  }

  /**
   * What happens to it until it ends: pauses, kills for memory, pressure and, with an `interval`, numbers. Default: no
   * numbers.
   * @throws ConflictError when it does not run.
   */
  events(options: Omit<EventsOptions, 'stateRoot'> = {}): AsyncGenerator<ContainerEvent, void, void> {
    return this.runner.live.events({ interval: 0, ...optionsArgument(options) })
  }

  /**
   * Mounts something in it while it runs: a directory of the host, or a new file system. It is there until the
   * container ends, or {@link removeMount}.
   * @param mount As config.json has it: `{ destination: '/data', type: 'bind', source: '/srv', options: ['rbind', 'ro'] }`.
   * @throws ConflictError when it does not run. @throws InvalidArgumentError for a destination that protects the host.
   * @throws UnsupportedError for what can be mounted only when the container is made. @throws RuntimeError naming the step
   * that failed.
   */
  async addMount(mount: Mount): Promise<void> {
    return this.runner.live.addMount(mountArgument(mount))
  }

  /**
   * Takes a mount away while it runs.
   * @throws NotFoundError when nothing is mounted there. @throws ConflictError when it does not run.
   * @throws InvalidArgumentError for what protects the container or the host.
   */
  async removeMount(destination: string): Promise<void> {
    return this.runner.live.removeMount(textArgument('destination', destination))
  }

  /**
   * Compares what it is with what was asked for: namespaces, mounts, rights, limits. The list is empty when all is so.
   * @throws ConflictError when it does not run.
   */
  audit(): Promise<readonly AuditFinding[]> {
    return this.runner.live.audit()
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
   * Idempotent. What it wrote can still be read, but for a detached container, whose log goes with it.
   */
  remove(): Promise<void> {
    this.removal ??= this.runner.remove().catch((error: unknown) => {
      this.removal = undefined
      throw error
    })
    return this.removal
  }

  /** The same as {@link remove}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.remove()
  }

  private async stopNow(options: StopOptions): Promise<ExitStatus> {
    const { stopSignal, stopTimeout } = this.parts
    const { timeout = stopTimeout, signal = stopSignal } = optionsArgument(options)
    const patience = toMilliseconds(timeout, 'timeout')
    signalNumber(signal)
    await this.signalUnlessEnded(signal)
    const timer = new AbortController()
    await Promise.race([this.exited, delay(patience, timer.signal).catch(() => {})])
    timer.abort()
    await this.signalUnlessEnded('SIGKILL')
    return this.exited
  }

  private async signalUnlessEnded(signal: string | number): Promise<void> {
    try {
      await this.runner.kill(signal)
    } catch (error) {
      if (!(error instanceof ConflictError || error instanceof NotFoundError)) throw error
    }
  }
}
