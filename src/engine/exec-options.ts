import type { Readable } from 'node:stream'
import type { Bytes, Duration } from '../internal/units.ts'

/** A terminal instead of pipes: whether, or of which size in characters. */
export type TtyOption = boolean | { readonly columns: number; readonly rows: number }

/** Options of `Container.spawn`: what is not given is as the container's own process has it. */
export interface SpawnOptions {
  /** Variables over those of the container; undefined or null removes one. */
  readonly env?: Readonly<Record<string, string | null | undefined>> | undefined
  /** Absolute path of the working directory. */
  readonly workingDir?: string | undefined
  /** `user[:group]`, each a name that the container's account files know, or an id. */
  readonly user?: string | undefined
  /** Whether it gets every capability that this process can grant, and may gain new privileges. Default false. */
  readonly privileged?: boolean | undefined
  /** Whether it gets a terminal: `stdout` then is all that it shows, `stdin` what is typed. Default false. */
  readonly tty?: TtyOption | undefined
  /** Standard input: nothing to read, or a pipe that `stdin` writes to. Default none; always there with `tty`. */
  readonly stdin?: 'none' | 'pipe' | undefined
  /**
   * What is written to standard input, which then ends; instead of `stdin`. A stream that fails ends the input where
   * it is.
   */
  readonly input?: string | Uint8Array | Readable | undefined
  /** Aborting before the promise resolves rejects with `signal.reason` and leaves nothing behind. */
  readonly signal?: AbortSignal | undefined
}

/** Options of `Container.exec`. */
export interface ExecOptions extends Omit<SpawnOptions, 'stdin' | 'signal'> {
  /** Time for all of it; when it is over the process is killed. Default unlimited. */
  readonly timeout?: Duration | undefined
  /** Most that both outputs may be together; beyond it the process is killed. Default 64 MiB. */
  readonly maxOutput?: Bytes | undefined
  /** Whether any exit code but 0 is an error. Default false. */
  readonly check?: boolean | undefined
  /** Aborting kills the process and rejects with `signal.reason`. */
  readonly signal?: AbortSignal | undefined
}

/** What a program in a container did. */
export interface ExecResult {
  /** What it wrote, as UTF-8. */
  readonly stdout: string
  readonly stderr: string
  /** Exit code 0 to 255; 128 + n when signal n ended it. */
  readonly exitCode: number
  /** Name of the signal that ended it. */
  readonly signal: NodeJS.Signals | undefined
}
