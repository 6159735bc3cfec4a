import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { ExecutionConfig } from '../image/config.ts'
import type { RuntimeContainer } from '../runtime/index.ts'
import type { Store, WritableLayer } from '../store/index.ts'
import { AttachedRunner } from './attached-runner.ts'
import { Container } from './container.ts'
import type { Image } from './image.ts'
import type { Output } from './output.ts'
import { untilReady } from './ready.ts'
import type { RunOptions, RunSettings } from './run-options.ts'
import { idsOf } from './spec.ts'
import type { Stdio } from './stdio.ts'

/** A container whose program was just executed, and what it was made of. */
export interface Started {
  readonly name: string
  readonly image: Image
  /** The image's config with what was given to `run`. */
  readonly execution: ExecutionConfig
  readonly store: Store
  readonly layer: WritableLayer
  readonly runtime: RuntimeContainer
  readonly stdio: Pick<Stdio, 'stdin' | 'close'>
  readonly output: Output
  /** Whether its input is the user's to write to. */
  readonly offersInput: boolean
  readonly stopSignal: string | number
  readonly settings: RunSettings
  readonly options: Pick<RunOptions, 'input' | 'ready'>
  readonly signal: AbortSignal
}

/** The handle to a container that dies with this process, when it is ready. */
export async function handleOf(started: Started): Promise<Container> {
  const {
    name,
    image,
    execution,
    store,
    layer,
    runtime,
    stdio,
    output,
    offersInput,
    stopSignal,
    settings,
    options,
    signal,
  } = started
  feed(stdio, options.input)
  const runner = new AttachedRunner({
    ...{ runtime, output, stdio, store, layer, offersInput },
    ids: idsOf(runtime.config),
  })
  const container = new Container({ name, image, execution, runner, stopSignal, stopTimeout: settings.stopTimeout })
  if (options.ready !== undefined) {
    output.start()
    await untilReady(container, output, options.ready, signal)
  }
  signal.throwIfAborted()
  // Not before our caller has had its turn: who asks for a stream then gets all of it.
  setImmediate(() => output.start())
  return container
}

function feed({ stdin }: Pick<Stdio, 'stdin'>, input: RunOptions['input']): void {
  if (input === undefined || stdin === undefined) return
  // A container need not read what it is given.
  if (input instanceof Readable) pipeline(input, stdin).catch(() => {})
  else stdin.end(input)
}
