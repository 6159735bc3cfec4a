import { type CopyProgress, copy } from '../content/copy.ts'
import { Operation } from '../content/operation.ts'
import { createRegistryClient, type RegistryClientOptions } from '../distribution/registry-client.ts'
import { InvalidArgumentError } from '../errors.ts'
import type { Descriptor } from '../image/descriptor.ts'
import { formatReference, parseReference, withDefaultTag } from '../image/reference.ts'
import { deadline } from '../internal/abort.ts'
import { type Duration, toMilliseconds } from '../internal/units.ts'
import type { Store } from '../store/index.ts'
import { imageArgument, optionsArgument } from './arguments.ts'
import type { Image } from './image.ts'

/** Options of `push`. */
export interface PushOptions {
  /** Registry, repository and tag to push it to. Default: the image's own reference. */
  readonly to?: string | undefined
  /** How the registry is spoken to: credentials, plain http, retries. */
  readonly registry?: RegistryClientOptions | undefined
  /** Blobs that are sent at the same time. Default 3. */
  readonly concurrency?: number | undefined
  /** Time for all of it. Default none. */
  readonly timeout?: Duration | undefined
  /** Aborting rejects with `signal.reason`; what had arrived whole stays at the registry. */
  readonly signal?: AbortSignal | undefined
}

/** What has been pushed. */
export interface PushedImage {
  /** Canonical name under which it is found now. */
  readonly reference: string
  readonly descriptor: Descriptor
}

/** A push under way: await it for what has been pushed, iterate it for progress, or both. */
export type PushOperation = Operation<PushedImage, CopyProgress>

/** Pushes an image of `store`. */
export function pushFrom(store: () => Promise<Store>, image: Image | string, options: PushOptions): PushOperation {
  return new Operation(async (report) => {
    imageArgument(image)
    optionsArgument(options)
    const source = withDefaultTag(parseReference(typeof image === 'string' ? image : image.reference))
    const target = options.to === undefined ? source : withDefaultTag(parseReference(options.to))
    const name = formatReference(target)
    if (target.tag === undefined || (target.digest !== undefined && options.to !== undefined)) {
      throw new InvalidArgumentError(`an image is pushed under a tag, and ${name} has none`, { subject: name })
    }
    const ms = options.timeout === undefined ? undefined : toMilliseconds(options.timeout, 'timeout')
    const { signal, clear } = deadline(`pushing ${name}`, ms, options.signal)
    const client = createRegistryClient(options.registry)
    try {
      const descriptor = await copy(
        await store(),
        typeof image === 'string' ? formatReference(source) : image.digest,
        client.repository(target),
        { as: target.tag, concurrency: options.concurrency, signal, onProgress: report },
      )
      return { reference: name, descriptor }
    } finally {
      clear()
      client.close()
    }
  })
}
