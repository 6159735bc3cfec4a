import { type Admission, copy } from '../content/copy.ts'
import type { CopyProgress } from '../content/copy-progress.ts'
import { Operation } from '../content/operation.ts'
import { createRegistryClient, type RegistryClientOptions } from '../distribution/registry-client.ts'
import type { Descriptor } from '../image/descriptor.ts'
import { hostPlatform, parsePlatform } from '../image/platform.ts'
import { formatReference, parseReference, withDefaultTag } from '../image/reference.ts'
import { deadline } from '../internal/abort.ts'
import { type Duration, toMilliseconds } from '../internal/units.ts'
import type { Store } from '../store/index.ts'
import { optionsArgument } from './arguments.ts'
import { EarlyUnpack, unpackReporting } from './early-unpack.ts'
import { type Image, readImage } from './image.ts'

/** Options of `pull`. */
export interface PullOptions {
  /** `os/architecture[/variant]` of the image to choose from an index. Default that of this machine. */
  readonly platform?: string | undefined
  /** How the registry is spoken to: credentials, plain http, retries. */
  readonly registry?: RegistryClientOptions | undefined
  /** Blobs that are fetched at the same time. Default 3. */
  readonly concurrency?: number | undefined
  /** Whether to unpack the layers as well, so that the first `run` is quick. Default true on Linux. */
  readonly unpack?: boolean | undefined
  /**
   * Asked whether the image may be pulled, with its manifest and whatever refers to it at hand: to verify
   * a signature, for example. Asked before a layer is fetched; when it throws or rejects, the pull fails
   * with AdmissionError and the store is as it was. Default: everything may.
   */
  readonly admit?: Admission | undefined
  /** Time for all of it. Default none. */
  readonly timeout?: Duration | undefined
  /** Aborting rejects with `signal.reason`; what had arrived whole stays for the next attempt. */
  readonly signal?: AbortSignal | undefined
}

/** How far a pull is. */
export type PullProgress = FetchProgress | UnpackProgress

/** Content comes in. */
export interface FetchProgress extends Omit<CopyProgress, 'phase'> {
  readonly phase: 'fetch'
}

/** Layers are written. */
export interface UnpackProgress {
  readonly phase: 'unpack'
  /** What happened to a layer. */
  readonly kind: 'started' | 'progress' | 'skipped' | 'done'
  readonly descriptor: Descriptor
  /** Bytes of this layer, as it is compressed, that are done. */
  readonly bytes: number
  /** Bytes of all layers that are done, and how many there are. */
  readonly transferred: number
  readonly total: number
}

/** A pull under way: await it for the image, iterate it for progress, or both. */
export type PullOperation = Operation<Image, PullProgress>

/** Pulls `reference` into `store`. */
export function pullInto(store: () => Promise<Store>, reference: string, options: PullOptions): PullOperation {
  return new Operation((report) => pullNow(store, reference, options, report))
}

async function pullNow(
  openStore: () => Promise<Store>,
  text: string,
  options: PullOptions,
  report: (progress: PullProgress) => void,
): Promise<Image> {
  optionsArgument(options)
  const reference = withDefaultTag(parseReference(text))
  const name = formatReference(reference)
  const platform = options.platform === undefined ? hostPlatform() : parsePlatform(options.platform)
  const ms = options.timeout === undefined ? undefined : toMilliseconds(options.timeout, 'timeout')
  const { signal, clear } = deadline(`pulling ${name}`, ms, options.signal)
  const client = createRegistryClient(options.registry)
  try {
    const store = await openStore()
    const repository = client.repository(reference)
    const wanted = reference.digest ?? reference.tag ?? 'latest'
    // Until the image has its name, and its layers are there, other processes must not take it for garbage.
    const lease = await store.lease({ signal })
    const unpacking = new EarlyUnpack(store, lease.content, signal, report)
    const wantsLayers = options.unpack ?? process.platform === 'linux'
    try {
      const descriptor = await copy(repository, wanted, unpacking.target, {
        platform,
        as: name,
        concurrency: options.concurrency,
        admit: options.admit,
        signal,
        ...(wantsLayers ? { onManifest: (manifest, raw) => unpacking.begin(manifest, raw) } : {}),
        onProgress: (progress) => report({ ...progress, phase: 'fetch' }),
      })
      const image = await readImage(store, name, descriptor, signal)
      if (wantsLayers && !(await unpacking.end())) await unpackReporting(store, image, {}, signal, report)
      return image
    } finally {
      await unpacking.close()
      await lease.release()
    }
  } finally {
    clear()
    client.close()
  }
}
