import type { Readable, Writable } from 'node:stream'
import type { Mount, Spec } from '../bundle/spec.ts'
import type { LinuxResources } from '../bundle/spec-resources.ts'
import type { ExitStatus } from '../errors.ts'
import type {
  AuditFinding,
  ContainerEvent,
  ContainerStats,
  EventsOptions,
  ExecOptions,
  ExecProcess,
  ProcessInfo,
  ResourceUsage,
  RuntimeProcess,
} from '../runtime/index.ts'
import type { Store } from '../store/index.ts'
import type { ContainerRoot } from './container-root.ts'
import type { LogLine, OutputName } from './line-splitter.ts'
import type { LogOptions } from './output.ts'

/** What a container wrote, wherever it is kept. */
export interface Log {
  /** The bytes of one output. Always the same stream. */
  stream(name: OutputName): Readable
  /** The lines of both outputs. @throws InvalidArgumentError for a `tail` that is no number of lines. */
  lines(options?: LogOptions): AsyncIterable<LogLine>
  /** The last lines, at most `count`. */
  tail(count: number): Promise<readonly string[]>
}

/** What the runtime does with a container; a container of the runtime is one. */
export interface LiveContainer {
  killAll(signal: string | number): Promise<void>
  usage(): Promise<ResourceUsage | undefined>
  pause(options?: { readonly signal?: AbortSignal }): Promise<void>
  resume(): Promise<void>
  update(resources: LinuxResources): Promise<void>
  stats(): Promise<ContainerStats>
  top(): Promise<readonly ProcessInfo[]>
  events(options?: Omit<EventsOptions, 'stateRoot'>): AsyncGenerator<ContainerEvent, void, void>
  addMount(mount: Mount): Promise<void>
  removeMount(destination: string): Promise<void>
  audit(): Promise<readonly AuditFinding[]>
}

/** What runs a container: this process, or a monitor that lives on without it. */
export interface Runner {
  readonly id: string
  readonly pid: number
  readonly warnings: readonly string[]
  readonly stdin: Writable | undefined
  readonly store: Store
  readonly output: Log
  readonly live: LiveContainer
  /** How it ended; all that it wrote can be read then. Never rejects. */
  readonly exited: Promise<ExitStatus>
  /** @throws ConflictError when it has ended. @throws InvalidArgumentError for what is no signal. */
  kill(signal: string | number): Promise<void>
  /** The config.json that it was made with. @throws NotFoundError when it is gone. */
  config(): Promise<Spec>
  /** Runs a further process in it. @throws ConflictError when it is not running; RuntimeError; NotFoundError. */
  exec(process: ExecProcess, options: ExecOptions): Promise<RuntimeProcess>
  /** Tells the program the size of its terminal. @throws ConflictError when it has none. */
  resize(columns: number, rows: number): void
  /** What its files are made of, as it is now. @throws NotFoundError when it has been removed. */
  root(): Promise<ContainerRoot>
  /** Kills it when it runs, and removes all that was made for it. */
  remove(): Promise<void>
}
