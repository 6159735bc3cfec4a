import { randomBytes } from 'node:crypto'
import { resolve } from 'node:path'
import type { Spec } from '../bundle/spec.ts'
import { NotFoundError, PlatformError, StartupError, UnsupportedError } from '../errors.ts'
import type { Digest } from '../image/digest.ts'
import { hostPlatform } from '../image/platform.ts'
import { formatReference, parseReference, withDefaultTag } from '../image/reference.ts'
import { deadline, untilAborted } from '../internal/abort.ts'
import { lazy } from '../internal/lazy.ts'
import type { CreateOptions, RuntimeContainer } from '../runtime/index.ts'
import { signalNumber } from '../runtime/processes.ts'
import { defaultStateRoot } from '../runtime/state-directory.ts'
import type { Store, WritableLayer } from '../store/index.ts'
import type { Container } from './container.ts'
import type { DetachedRecord } from './detached-record.ts'
import { executionConfig } from './execution-config.ts'
import { sortHooks } from './hooks.ts'
import { assertRunnable, findImage, type Image, unpack } from './image.ts'
import { createLogFiles } from './log-files.ts'
import { Output } from './output.ts'
import { pullInto } from './pull.ts'
import { untilReady } from './ready.ts'
import { type RunOptions, type RunSettings, settingsOf } from './run-options.ts'
import { mappedIds, type RuntimeRoot, withRoot } from './runtime-root.ts'
import { buildSpec, hostUid, idsOf } from './spec.ts'
import { handleOf } from './started.ts'
import { openStdio, type Stdio, terminalStdio } from './stdio.ts'
import { fillVolumes, type ResolvedMounts, resolveMounts } from './volume-mounts.ts'

/** Loaded by the first run; a further import() would ask the loader anew. */
const runtime = lazy(() => import('../runtime/index.ts'))

/** What runs are made with. */
export interface RunContext {
  readonly store: () => Promise<Store>
  readonly stateRoot: string | undefined
}

/** Runs a container of `image`; see `run` of oci-ts. */
export async function runContainer(
  context: RunContext,
  image: Image | string,
  options: RunOptions,
): Promise<Container> {
  if (process.platform !== 'linux') {
    throw new UnsupportedError('running containers', `they need Linux, and this is ${process.platform}`, {
      hint: 'Run this program in a Linux machine; pulling and pushing images works here.',
    })
  }
  const settings = settingsOf(options)
  const subject = options.name ?? (typeof image === 'string' ? image : image.reference)
  const { signal, clear } = deadline(`running ${subject}`, settings.timeout, options.signal)
  const run = new Run(context, options, settings, signal)
  try {
    return await run.start(image)
  } catch (error) {
    // What was interrupted may have failed in its own words. A StartupError knows why by itself.
    const failure = signal.aborted && !(error instanceof StartupError) ? signal.reason : error
    await run.undo()
    throw failure
  } finally {
    clear()
  }
}

/** What is known of a container before it is made. */
interface Birth {
  readonly id: string
  readonly name: string
  readonly image: Image
  readonly stopSignal: string | number
  readonly chainId: Digest | undefined
  readonly spec: Spec
  readonly volumes: ResolvedMounts['volumes']
}

/** One run: what has been made so far, so that it can be undone. */
class Run {
  private readonly context: RunContext
  private readonly options: RunOptions
  private readonly settings: RunSettings
  private readonly signal: AbortSignal
  private layer: WritableLayer | undefined
  private stdio: Pick<Stdio, 'close'> | undefined
  private runtime: RuntimeContainer | undefined

  constructor(context: RunContext, options: RunOptions, settings: RunSettings, signal: AbortSignal) {
    this.context = context
    this.options = options
    this.settings = settings
    this.signal = signal
  }

  async start(wanted: Image | string): Promise<Container> {
    const { options, signal } = this
    signal.throwIfAborted()
    const store = await untilAborted(this.context.store(), signal)
    const image =
      typeof wanted === 'string'
        ? await findOrPull(store, wanted, this.settings.pull, options.pullOptions, signal)
        : wanted
    assertRunnable(image, hostPlatform())
    const stopSignal = options.stopSignal ?? stopSignalOf(image)
    const { chainId, layers } = await unpack(store, image, signal)
    const id = randomBytes(32).toString('hex')
    const { mounts, volumes } = resolveMounts(store, image, options.mounts, options.userNamespace)
    const spec = await buildSpec(id, image, layers, mounts, options)
    signal.throwIfAborted()
    const birth: Birth = { id, name: options.name ?? id.slice(0, 12), image, stopSignal, chainId, spec, volumes }
    return options.detach === true ? this.detached(store, birth) : this.attached(store, birth)
  }

  /** Removes what was made. Errors of it would hide the one that led here. */
  async undo(): Promise<void> {
    await this.runtime?.delete({ force: true }).catch(() => {})
    this.stdio?.close()
    await this.layer?.remove().catch(() => {})
  }

  private async attached(store: Store, birth: Birth): Promise<Container> {
    const { options, settings, signal } = this
    const { id, name, image, stopSignal, chainId, spec } = birth
    const volumes = birth.volumes.map(({ volume }) => volume)
    const layer = await store.createWritable(chainId, {
      ...{ id, ephemeral: true, image: image.digest, volumes, signal },
      ids: mappedIds(spec),
    })
    this.layer = layer
    signal.throwIfAborted()
    await fillVolumes(store, layer, birth, options.userNamespace, signal)

    const pipes = spec.process?.terminal === true ? undefined : openStdio(settings.stdin !== 'none', hostUid(spec))
    this.stdio = pipes
    const runtime = await this.create(birth, layer, pipes?.descriptors)
    const stdio = pipes ?? terminalStdio(runtime.terminal)
    this.stdio = stdio
    const output = new Output(stdio.outputs, settings.logSize)
    stdio.handOver()
    await untilAborted(runtime.start(), signal)
    const offersInput = settings.stdin === 'pipe' || pipes === undefined
    const execution = executionConfig(image, options)
    const made = { name, image, execution, store, layer, runtime, stdio, output }
    return handleOf({ ...made, offersInput, stopSignal, settings, options, signal })
  }

  private async detached(store: Store, birth: Birth): Promise<Container> {
    const { options, settings, signal } = this
    const { id, name, image, stopSignal, chainId, spec } = birth
    const [{ handle }, { directoryOf, registerDetached }, { DetachedRunner }] = await Promise.all([
      import('./detached.ts'),
      import('./detached-record.ts'),
      import('./detached-runner.ts'),
    ])
    const stateRoot = resolve(this.context.stateRoot ?? defaultStateRoot())
    const { stopTimeout } = settings
    const created = Date.now()
    const ids = idsOf(spec)
    const execution = executionConfig(image, options)
    const own = { id, name, image, execution, stopSignal, stopTimeout, stateRoot, created }
    const record: DetachedRecord = { version: 1, ...own, ...(ids === undefined ? {} : { ids }) }
    const volumes = birth.volumes.map(({ volume }) => volume)
    const makeLayer = (onMade: () => void): Promise<WritableLayer> =>
      store.createWritable(chainId, { id, image: image.digest, volumes, signal, ids: mappedIds(spec), onMade })
    const layer = await registerDetached(store, record, makeLayer, signal)
    this.layer = layer
    signal.throwIfAborted()
    await fillVolumes(store, layer, birth, options.userNamespace, signal)

    const files = createLogFiles(directoryOf(store, id), hostUid(spec))
    this.stdio = files
    const runtime = await this.create(birth, layer, [undefined, files.stdout, files.stderr])
    files.close()
    await untilAborted(runtime.start(), signal)
    const runner = new DetachedRunner(store, record, runtime.pid, [...runtime.warnings, ...layer.warnings])
    if (options.ready !== undefined) {
      const { output } = runner
      // The end as this process sees it, as long as the container is in its hands.
      const { exited } = runtime
      await untilReady({ id, name, image, exited, logs: (of) => output.lines(of) }, output, options.ready, signal)
    }
    signal.throwIfAborted()
    await runtime.release()
    return handle(runner, record)
  }

  private async create(birth: Birth, layer: WritableLayer, stdio: CreateOptions['stdio']): Promise<RuntimeContainer> {
    const { createContainer } = await runtime()
    // What is written is lost with this process anyway, unless the container is to outlive it.
    const volatile = this.options.detach !== true
    const make = (root: RuntimeRoot): Promise<RuntimeContainer> =>
      createContainer({
        ...root,
        id: birth.id,
        spec: birth.spec,
        ...(stdio === undefined ? {} : { stdio }),
        detach: this.options.detach,
        hooks: sortHooks(this.options.hooks).functions,
        onSyscall: this.options.onSyscall,
        syscallTimeout: this.settings.syscallTimeout,
        learn: this.options.learn,
        stateRoot: this.context.stateRoot,
        signal: this.signal,
      })
    this.runtime = await withRoot(layer, birth.spec, volatile, make)
    return this.runtime
  }
}

/** An image of the store; pulls it when `pull` says so. */
export async function findOrPull(
  store: Store,
  text: string,
  pull: RunSettings['pull'],
  pullOptions: RunOptions['pullOptions'] = {},
  signal?: AbortSignal,
): Promise<Image> {
  const name = formatReference(withDefaultTag(parseReference(text)))
  if (pull !== 'always') {
    try {
      return await findImage(store, name, pullOptions.platform, signal)
    } catch (error) {
      const isMissing = error instanceof NotFoundError || error instanceof PlatformError
      if (!isMissing || pull === 'never') throw error
    }
  }
  return pullInto(async () => store, text, { ...pullOptions, signal })
}

/** The signal that an image wants to be stopped with. @throws InvalidArgumentError when it is none. */
export function stopSignalOf({ config }: Image): string {
  const signal = config.config?.StopSignal
  if (signal === undefined || signal === '') return 'SIGTERM'
  signalNumber(signal)
  return signal
}
