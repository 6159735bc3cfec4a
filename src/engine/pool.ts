import { randomBytes } from 'node:crypto'
import type { Spec } from '../bundle/spec.ts'
import { InvalidArgumentError, StartupError } from '../errors.ts'
import { hostPlatform } from '../image/platform.ts'
import { deadline, untilAborted } from '../internal/abort.ts'
import type { ParkedContainer } from '../runtime/parked.ts'
import type { PoolProcess } from '../runtime/run-plan.ts'
import { checkSize, type Spare, WarmPool } from '../runtime/warm-pool.ts'
import type { Store, WritableLayer } from '../store/index.ts'
import { optionsArgument } from './arguments.ts'
import type { Container } from './container.ts'
import { executionConfig } from './execution-config.ts'
import { sortHooks } from './hooks.ts'
import { assertRunnable, type Image, unpack } from './image.ts'
import { Output } from './output.ts'
import { findOrPull, type RunContext, stopSignalOf } from './run.ts'
import { type RunOptions, settingsOf } from './run-options.ts'
import { mappedIds, withRoot } from './runtime-root.ts'
import { buildSpec, hostUid } from './spec.ts'
import { handleOf } from './started.ts'
import { openStdio, type Stdio } from './stdio.ts'
import { fillVolumes, resolveMounts } from './volume-mounts.ts'

/** What each run of a pool chooses for itself; what is not given is as the pool has it. */
export type PooledRunOptions = Pick<
  RunOptions,
  | 'command'
  | 'entrypoint'
  | 'env'
  | 'workingDir'
  | 'user'
  | 'groups'
  | 'umask'
  | 'ulimits'
  | 'hostname'
  | 'name'
  | 'stdin'
  | 'input'
  | 'ready'
  | 'stopSignal'
  | 'stopTimeout'
  | 'logSize'
  | 'timeout'
  | 'signal'
>

/** Options of `createPool`: how many containers are kept ready, and what they have in common. */
export interface ContainerPoolOptions
  extends Omit<
    RunOptions,
    'detach' | 'tty' | 'name' | 'stdin' | 'input' | 'cgroupsPath' | 'onSyscall' | 'syscallTimeout' | 'learn'
  > {
  /** How many containers are kept ready. 1 to 1000. */
  readonly size: number
}

/** Makes a pool of containers of `image`; see `createPool` of oci-ts. */
export async function createContainerPool(
  context: RunContext,
  wanted: Image | string,
  options: ContainerPoolOptions,
): Promise<ContainerPool> {
  optionsArgument(options)
  if (options === undefined) throw new InvalidArgumentError('a pool must have a size', { subject: 'size' })
  checkSize(options.size)
  for (const name of ['detach', 'tty', 'name', 'stdin', 'input', 'cgroupsPath', 'onSyscall', 'learn']) {
    if (!(name in options)) continue
    throw new InvalidArgumentError(`containers of a pool can't have ${name}`, { subject: name })
  }
  const settings = settingsOf(options)
  const subject = typeof wanted === 'string' ? wanted : wanted.reference
  const { signal, clear } = deadline(`making a pool of ${subject}`, settings.timeout, options.signal)
  try {
    signal.throwIfAborted()
    const store = await untilAborted(context.store(), signal)
    const image =
      typeof wanted === 'string' ? await findOrPull(store, wanted, settings.pull, options.pullOptions, signal) : wanted
    assertRunnable(image, hostPlatform())
    const stopSignal = stopSignalOf(image)
    const unpacked = await unpack(store, image, signal)
    const { signal: _, timeout: __, size, ...common } = options
    const pool = new ContainerPool({ context, store, image, stopSignal, unpacked, options: common, size })
    try {
      await untilAborted(pool.first(), signal)
      return pool
    } catch (error) {
      await pool.close()
      throw error
    }
  } finally {
    clear()
  }
}

interface PoolParts {
  readonly context: RunContext
  readonly store: Store
  readonly image: Image
  readonly stopSignal: string | number
  readonly unpacked: Awaited<ReturnType<typeof unpack>>
  readonly options: Omit<ContainerPoolOptions, 'size' | 'signal' | 'timeout'>
  readonly size: number
}

/** A container that waits for its run, with a layer of its own. */
interface ParkedRun extends Spare {
  readonly id: string
  readonly layer: WritableLayer
  readonly mounts: ReturnType<typeof resolveMounts>['mounts']
  readonly parked: ParkedContainer
}

/** A run, with what the pool has for all. */
interface PooledRun {
  readonly all: RunOptions
  /** The run's own. */
  readonly hostname: string | undefined
  readonly settings: ReturnType<typeof settingsOf>
  readonly signal: AbortSignal
}

/** Containers of an image that wait for what they are to run, each with a writable layer of its own. */
export class ContainerPool implements AsyncDisposable {
  readonly image: Image
  private readonly parts: PoolParts
  private readonly spares: WarmPool<ParkedRun>

  /** @internal */
  constructor(parts: PoolParts) {
    this.parts = parts
    this.image = parts.image
    this.spares = new WarmPool(parts.size, (early) => this.park(early))
  }

  /** How many containers are ready at this moment. */
  get ready(): number {
    return this.spares.ready
  }

  /** Resolves when it is full. @throws what making a container throws. */
  full(): Promise<void> {
    return this.spares.whenReady()
  }

  /** Resolves when there is one. @internal */
  first(): Promise<void> {
    return this.spares.whenReady(1)
  }

  /**
   * Runs a command in a container of the pool, or in the next one that is ready. Resolves as `run` of oci-ts does, and gives
   * the same handle: `remove` removes the container with its layer.
   * @throws what `run` throws; nothing is left behind then. @throws ConflictError when the pool is closed.
   */
  async run(options: PooledRunOptions = {}): Promise<Container> {
    const { image, options: common } = this.parts
    const all: RunOptions = { ...common, ...options, env: { ...common.env, ...options.env } }
    const settings = settingsOf(all)
    const { signal, clear } = deadline(`running ${options.name ?? image.reference}`, settings.timeout, options.signal)
    try {
      return await this.spares.use(
        (parked) => this.runIn(parked, { all, hostname: options.hostname, settings, signal }),
        signal,
      )
    } catch (error) {
      // What was interrupted may have failed in its own words. A StartupError knows why by itself.
      throw signal.aborted && !(error instanceof StartupError) ? signal.reason : error
    } finally {
      clear()
    }
  }

  /** @returns undefined when what was done early does not allow that; it is removed then, as when it fails. */
  private async runIn(
    parked: ParkedRun,
    { all, hostname, settings, signal }: PooledRun,
  ): Promise<Container | undefined> {
    const { image, store } = this.parts
    const { id, layer } = parked
    let stdio: Stdio | undefined
    try {
      const spec = await this.specFor(parked, all)
      stdio = openStdio(settings.stdin !== 'none', hostUid(spec))
      const output = new Output(stdio.outputs, settings.logSize)
      const runtime = await parked.parked.run(processOf(spec), { stdio: stdio.descriptors, hostname, signal })
      if (runtime === undefined) {
        stdio.close()
        await parked.remove()
        return undefined
      }
      stdio.handOver()
      return await handleOf({
        ...{ image, store, layer, runtime, stdio, output, settings, options: all, signal },
        execution: executionConfig(image, all),
        name: all.name ?? id.slice(0, 12),
        offersInput: settings.stdin === 'pipe',
        stopSignal: all.stopSignal ?? this.parts.stopSignal,
      })
    } catch (error) {
      stdio?.close()
      await parked.remove().catch(() => {})
      throw error
    }
  }

  /** Removes the containers that are ready. Those that run are their users'. Idempotent. */
  close(): Promise<void> {
    return this.spares.close()
  }

  /** As {@link close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  private specFor({ id, mounts }: Pick<ParkedRun, 'id' | 'mounts'>, options: RunOptions): Promise<Spec> {
    return buildSpec(id, this.parts.image, this.parts.unpacked.layers, mounts, options)
  }

  private async park(early: boolean): Promise<ParkedRun> {
    const { store, image, unpacked, options, context } = this.parts
    const id = randomBytes(32).toString('hex')
    const { mounts, volumes } = resolveMounts(store, image, options.mounts, options.userNamespace)
    // A run that has no command of its own needs the image's; one that is never run needs none.
    const spec = await this.specFor({ id, mounts }, { ...options, command: options.command ?? ['/'] })
    const layer = await store.createWritable(unpacked.chainId, {
      ...{ id, ephemeral: true, image: image.digest },
      volumes: volumes.map(({ volume }) => volume),
      ids: mappedIds(spec),
    })
    try {
      await fillVolumes(store, layer, { volumes, spec }, options.userNamespace, new AbortController().signal)
      const { createParked } = await import('../runtime/create.ts')
      const hooks = sortHooks(options.hooks).functions
      // What is written is lost with this process anyway.
      const parked = await withRoot(layer, spec, true, (root) =>
        createParked({ ...root, id, spec, stateRoot: context.stateRoot, hooks }, early),
      )
      const remove = async (): Promise<void> => {
        await parked.remove()
        await layer.remove()
      }
      return { id, layer, mounts, parked, ended: parked.ended, remove }
    } catch (error) {
      await layer.remove().catch(() => {})
      throw error
    }
  }
}

/** What of a config a run decides. */
function processOf({ process }: Spec): PoolProcess {
  const { args, env, cwd = '/', user, rlimits } = process ?? {}
  return {
    cwd,
    ...(args === undefined ? {} : { args }),
    ...(env === undefined ? {} : { env }),
    ...(user === undefined ? {} : { user }),
    ...(rlimits === undefined ? {} : { rlimits }),
  }
}
