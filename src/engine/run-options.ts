import { Readable } from 'node:stream'
import type { BundleOptions } from '../bundle/options.ts'
import type { Spec } from '../bundle/spec.ts'
import { InvalidArgumentError } from '../errors.ts'
import { oneOf } from '../internal/choice.ts'
import { type Bytes, type Duration, toBytes, toMilliseconds } from '../internal/units.ts'
import type { Learning, SyscallHandlers } from '../runtime/index.ts'
import { signalNumber } from '../runtime/processes.ts'
import type { TtyOption } from './exec-options.ts'
import { terminalOf } from './exec-process.ts'
import type { RunHooks } from './hooks.ts'
import type { PullOptions } from './pull.ts'
import type { RunMountOption } from './volume-mounts.ts'
import type { WaitStrategy } from './wait.ts'

/** Options of `run`: those of a bundle (what the container gets), and how it is started and watched. */
export interface RunOptions
  extends Omit<BundleOptions, 'id' | 'rootfs' | 'terminal' | 'consoleSize' | 'accounts' | 'mounts' | 'hooks'> {
  /**
   * Mounts beside Docker's default ones, which give way to one with the same target. Paths that the image wants to be
   * volumes get an anonymous one each, unless something is mounted there.
   */
  readonly mounts?: readonly RunMountOption[]
  /**
   * What is run at moments of its life: programs, and async functions of this process, which run after the programs of
   * their moment. Functions are not run for what happens to a detached container when this process is gone.
   */
  readonly hooks?: RunHooks | undefined
  /**
   * Functions of this process that answer system calls of the container, by the names of these; see `onSyscall` of
   * oci-ts/runtime. Not for `detach`.
   */
  readonly onSyscall?: SyscallHandlers | undefined
  /** How long such a function may take before the call fails with EPERM. Default 10 seconds. */
  readonly syscallTimeout?: Duration | undefined
  /**
   * Records which system calls and capabilities the container uses, and what `exec` runs in it; see {@link Learning}. Not
   * for `detach`, nor together with `onSyscall`.
   */
  readonly learn?: Learning | undefined
  /** Name for errors and logs, and for `attach`. Default the first 12 characters of the id. */
  readonly name?: string | undefined
  /**
   * Whether the container goes on when this process ends, until it is removed: by this handle, or by one of
   * `attach` in any process. What it writes goes to files beside its layer, which grow as it writes; it has
   * nothing to read. Its name is no other detached container's. Default false: it dies with this process.
   */
  readonly detach?: boolean | undefined
  /** Whether to pull when a reference is given. Default `missing`. */
  readonly pull?: 'missing' | 'always' | 'never' | undefined
  /** How to pull; `signal` and `timeout` of `run` hold there as well. */
  readonly pullOptions?: Omit<PullOptions, 'signal' | 'timeout'> | undefined
  /**
   * Whether it gets a terminal, of which size: what it shows is `stdout` and the log, `stdin` is what is typed, and
   * `resize` changes the size. Not for `detach`: nobody would read it. Default false.
   */
  readonly tty?: TtyOption | undefined
  /** Standard input: nothing to read, or a pipe that `Container.stdin` writes to. Default none. */
  readonly stdin?: 'none' | 'pipe' | undefined
  /**
   * What is written to standard input, which then ends; instead of `stdin`. A stream that fails ends the input
   * where it is; one that is not read to its end is destroyed with the container.
   */
  readonly input?: string | Uint8Array | Readable | undefined
  /** When `run` resolves. Default: when the program has been executed. */
  readonly ready?: WaitStrategy | undefined
  /** Time for all up to the promise's resolution: pull, unpack, create, start, ready. Default 60 seconds. */
  readonly timeout?: Duration | undefined
  /** Aborting before the promise resolves rejects with `signal.reason` and leaves nothing behind. */
  readonly signal?: AbortSignal | undefined
  /** Signal that `stop` sends first. Default the image's, else SIGTERM. */
  readonly stopSignal?: string | number | undefined
  /** Time that `stop` gives it before SIGKILL. Default 10 seconds. */
  readonly stopTimeout?: Duration | undefined
  /** How much of the output is kept in memory for `logs`. Default 16 MiB; not for `detach`, which keeps all. */
  readonly logSize?: Bytes | undefined
  /**
   * Edits the config.json before the container is made: the way out for what has no option. Must be pure. What comes of it is
   * validated.
   */
  readonly configure?: ((spec: Spec) => Spec) | undefined
}

/** Options of a run with their defaults, in plain units. */
export interface RunSettings {
  /** Milliseconds. */
  readonly timeout: number
  /** Milliseconds. */
  readonly stopTimeout: number
  /** Bytes. */
  readonly logSize: number
  readonly stdin: 'none' | 'pipe' | 'input'
  readonly pull: 'missing' | 'always' | 'never'
  /** Milliseconds. */
  readonly syscallTimeout: number
}

/** Checks what can be checked before anything is done. @throws InvalidArgumentError naming the option. */
export function settingsOf(options: RunOptions): RunSettings {
  const { input, stdin = 'none', pull = 'missing' } = options
  oneOf('stdin', stdin, ['none', 'pipe'])
  oneOf('pull', pull, ['missing', 'always', 'never'])
  if (input !== undefined) {
    if (stdin !== 'none') throw new InvalidArgumentError('stdin and input exclude each other', { subject: 'input' })
    if (!(typeof input === 'string' || input instanceof Uint8Array || input instanceof Readable)) {
      throw new InvalidArgumentError('input must be text, bytes or a stream', { subject: 'input' })
    }
  }
  if (options.detach === true && (input !== undefined || stdin !== 'none')) {
    throw new InvalidArgumentError('a detached container has no standard input', { subject: 'detach' })
  }
  for (const name of ['onSyscall', 'learn'] as const) {
    if (options.detach !== true || options[name] === undefined) continue
    const message = `${name} ends with this process, which a detached container does not`
    throw new InvalidArgumentError(message, { subject: 'detach' })
  }
  terminalOf(options.tty)
  if (options.detach === true && options.tty !== undefined && options.tty !== false) {
    throw new InvalidArgumentError('a detached container has no terminal', { subject: 'detach' })
  }
  if (options.stopSignal !== undefined) signalNumber(options.stopSignal)
  return {
    timeout: toMilliseconds(options.timeout ?? '60s', 'timeout'),
    stopTimeout: toMilliseconds(options.stopTimeout ?? '10s', 'stopTimeout'),
    logSize: toBytes(options.logSize ?? '16m', 'logSize'),
    stdin: input === undefined ? stdin : 'input',
    pull,
    syscallTimeout: toMilliseconds(options.syscallTimeout ?? '10s', 'syscallTimeout'),
  }
}
