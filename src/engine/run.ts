import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { BundleOptions } from '../bundle/options.ts'
import type { Spec } from '../bundle/spec.ts'
import { type ExitStatus, InvalidArgumentError, NotFoundError, StartupError } from '../errors.ts'
import { hostPlatform } from '../image/platform.ts'
import { formatReference, parseReference, withDefaultTag } from '../image/reference.ts'
import { deadline, untilAborted } from '../internal/abort.ts'
import { type Bytes, type Duration, toBytes, toMilliseconds } from '../internal/units.ts'
import type { RuntimeContainer } from '../runtime/index.ts'
import type { Store, WritableLayer } from '../store/index.ts'
import { Container } from './container.ts'
import { assertRunnable, type Image, readImage, unpack } from './image.ts'
import { Output } from './output.ts'
import { type PullOptions, pullInto } from './pull.ts'
import { buildSpec, hostUid } from './spec.ts'
import { openStdio, type Stdio } from './stdio.ts'
import { UnexpectedExit, type WaitStrategy } from './wait.ts'

/** Options of `run`: those of a bundle (what the container gets), and how it is started and watched. */
export interface RunOptions extends Omit<BundleOptions, 'id' | 'rootfs' | 'terminal' | 'consoleSize' | 'accounts'> {
  /** Name for errors and logs. Default the first 12 characters of the id. */
  readonly name?: string | undefined
  /** Whether to pull when a reference is given. Default `missing`. */
  readonly pull?: 'missing' | 'always' | 'never' | undefined
  /** How to pull; `signal` and `timeout` of `run` hold there as well. */
  readonly pullOptions?: Omit<PullOptions, 'signal' | 'timeout'> | undefined
  /** Standard input: none, a pipe that `Container.stdin` writes to, or what to write to it. Default none. */
  readonly stdin?: 'none' | 'pipe' | string | Uint8Array | Readable | undefined
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
  /** How much of the output is kept for `logs`. Default 16 MiB. */
  readonly logSize?: Bytes | undefined
  /** Edits the config.json before the container is made: the way out for what has no option. Must be pure. */
  readonly configure?: ((spec: Spec) => Spec) | undefined
}

/** What runs are made with. */
export interface RunContext {
  readonly store: () => Promise<Store>
  readonly stateRoot: string | undefined
}

const defaultTimeout = 60_000
const keptLogs = 16 << 20
const linesInErrors = 50

/** Runs a container of `image`; see `run` of oci-ts. */
export async function runContainer(
  context: RunContext,
  image: Image | string,
  options: RunOptions,
): Promise<Container> {
  const subject = options.name ?? (typeof image === 'string' ? image : image.reference)
  const ms = toMilliseconds(options.timeout ?? defaultTimeout, 'timeout')
  const { signal, clear } = deadline(`running ${subject}`, ms, options.signal)
  const run = new Run(context, options, signal)
  try {
    return await run.start(image)
  } catch (error) {
    await run.undo()
    // What was interrupted may have failed in its own words.
    throw signal.aborted ? signal.reason : error
  } finally {
    clear()
  }
}

/** One run: what has been made so far, so that it can be undone. */
class Run {
  private readonly context: RunContext
  private readonly options: RunOptions
  private readonly signal: AbortSignal
  private layer: WritableLayer | undefined
  private stdio: Stdio | undefined
  private runtime: RuntimeContainer | undefined

  constructor(context: RunContext, options: RunOptions, signal: AbortSignal) {
    this.context = context
    this.options = options
    this.signal = signal
  }

  async start(wanted: Image | string): Promise<Container> {
    const { options, signal } = this
    const store = await this.context.store()
    const image = typeof wanted === 'string' ? await this.find(store, wanted) : wanted
    assertRunnable(image, hostPlatform())
    const { chainId, layers } = await unpack(store, image, signal)
    const id = randomBytes(32).toString('hex')
    const spec = await buildSpec(id, image, layers, options)
    this.layer = await store.createWritable(chainId, { id, ephemeral: true })
    const { layer } = this
    signal.throwIfAborted()

    const stdio = openStdio(options.stdin !== undefined && options.stdin !== 'none', hostUid(spec))
    this.stdio = stdio
    const output = new Output(stdio.outputs, toBytes(options.logSize ?? keptLogs, 'logSize'))
    const { createContainer } = await import('../runtime/index.ts')
    const runtime = await createContainer({
      id,
      spec,
      bundle: layer.upper,
      overlay: layer.lower.length === 0 ? undefined : layer,
      stdio: stdio.descriptors,
      stateRoot: this.context.stateRoot,
      signal,
    })
    this.runtime = runtime
    stdio.handOver()
    await runtime.start()
    this.feed(stdio)
    const container = new Container({
      name: options.name ?? id.slice(0, 12),
      image,
      runtime,
      output,
      stdio,
      layer,
      stopSignal: options.stopSignal ?? image.config.config?.StopSignal ?? 'SIGTERM',
      stopTimeout: toMilliseconds(options.stopTimeout ?? 10_000, 'stopTimeout'),
    })
    if (options.ready !== undefined) await this.untilReady(container, output, options.ready)
    signal.throwIfAborted()
    return container
  }

  /** Removes what was made. Errors of it would hide the one that led here. */
  async undo(): Promise<void> {
    await this.runtime?.delete({ force: true }).catch(() => {})
    this.stdio?.close()
    await this.layer?.remove().catch(() => {})
  }

  private async find(store: Store, text: string): Promise<Image> {
    const { pull = 'missing', pullOptions } = this.options
    const { signal } = this
    const name = formatReference(withDefaultTag(parseReference(text)))
    if (pull !== 'always') {
      try {
        return await readImage(store, name, await store.resolve(name, { signal }), signal)
      } catch (error) {
        if (!(error instanceof NotFoundError) || pull === 'never') throw error
      }
    }
    return pullInto(async () => store, text, { ...pullOptions, signal })
  }

  private feed(stdio: Stdio): void {
    const { stdin } = this.options
    if (stdio.stdin === undefined || stdin === 'pipe') return
    if (stdin instanceof Readable) {
      // A container need not read what it is given.
      pipeline(stdin, stdio.stdin).catch(() => {})
    } else if (typeof stdin === 'string' || stdin instanceof Uint8Array) {
      stdio.stdin.end(stdin)
    } else {
      throw new InvalidArgumentError('stdin must be "none", "pipe", text, bytes or a stream', { subject: 'stdin' })
    }
  }

  private async untilReady(container: Container, output: Output, ready: WaitStrategy): Promise<void> {
    const began = Date.now()
    const controller = new AbortController()
    const stop = (): void => controller.abort(this.signal.reason)
    this.signal.addEventListener('abort', stop, { once: true })
    const gone = container.exited.then((exit) =>
      ready.untilExit === true ? new Promise<never>(() => {}) : Promise.reject(new Ended(exit)),
    )
    gone.catch(() => {})
    const isReady = ready.wait(container, controller.signal)
    isReady.catch(() => {})
    try {
      await untilAborted(Promise.race([isReady, gone]), this.signal)
    } catch (error) {
      if (!(error instanceof Ended) && !(error instanceof UnexpectedExit)) throw error
      await output.ended()
      const exit = error instanceof Ended ? error.exit : await container.exited
      const elapsed = ((Date.now() - began) / 1000).toFixed(1)
      const message = `container ${container.name} (${container.image.reference}) exited with code ${exit.code}${exit.oomKilled ? ', out of memory,' : ''} while waiting for ${ready.name} (${elapsed} s)`
      throw new StartupError(container.name, message, exit, await output.tail(linesInErrors), { cause: error })
    } finally {
      this.signal.removeEventListener('abort', stop)
      controller.abort()
    }
  }
}

class Ended extends Error {
  readonly exit: ExitStatus

  constructor(exit: ExitStatus) {
    super(`exit code ${exit.code}`)
    this.exit = exit
  }
}
