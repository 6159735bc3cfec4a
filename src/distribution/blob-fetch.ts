import { Readable } from 'node:stream'
import { collect, verified } from '../content/verify.ts'
import { NotFoundError, SizeMismatchError, UnsupportedError } from '../errors.ts'
import type { Descriptor } from '../image/descriptor.ts'
import { isVerifiable } from '../image/digest.ts'
import { type ByteRange, type ContentSource, openContent, progressThreshold } from './content-stream.ts'
import { type Endpoint, send } from './endpoint.ts'
import { acceptHeader } from './manifests.ts'
import { SourcePool } from './mirrors/pool.ts'
import { fromFirst } from './mirrors/sources.ts'
import { refusalOf } from './origin.ts'
import { openParallel } from './parallel-content.ts'
import { contentLength } from './response.ts'
import type { HttpResponse } from './transport.ts'

/** Bytes of a blob that is held in memory to verify what a mirror has given. */
const maxBuffered = 1024 * 1024

/** Times that a mirror may break off without getting on; then the next source goes on. */
const maxDrops = 2

/** What {@link openFromRegistry} opens. */
export interface RemoteContent {
  readonly endpoint: Endpoint
  readonly descriptor: Descriptor
  /** Whether it is below `manifests/` rather than `blobs/`. */
  readonly manifest: boolean
}

/**
 * Opens a manifest or blob of a repository as a stream that survives dropped connections, and that
 * goes on at the next source where a mirror has not got it or breaks off twice without getting on. The
 * parts of a large blob come from all mirrors at the same time, where the client was told to pull parts. What
 * is small is verified before any of it is given out, so that a mirror with other content does not
 * matter; of a large blob its reader finds out.
 */
export async function openFromRegistry(
  content: RemoteContent,
  offset: number,
  signal: AbortSignal | undefined,
): Promise<Readable> {
  const { endpoint, descriptor, manifest } = content
  const small = manifest || descriptor.size <= maxBuffered
  if (endpoint.mirrors.length === 0 || !small || !isVerifiable(descriptor.digest)) {
    const pool = new SourcePool(endpoint, descriptor.digest, !manifest && endpoint.ranges.parallel > 1)
    const connect = (): ContentSource => contentSource(content, pool)
    if (manifest) return openContent(connect(), offset, signal)
    return openParallel(connect, descriptor.size, offset, endpoint.ranges, signal)
  }
  const bytes = await fromFirst(endpoint, descriptor.digest, signal, async (source) => {
    const one = { ...source, mirrors: [] }
    const pool = new SourcePool(one, descriptor.digest, false)
    const stream = await openContent(contentSource({ ...content, endpoint: one }, pool), 0, signal)
    return collect(verified(descriptor, stream, { signal }))
  })
  if (manifest) endpoint.manifests.set(descriptor.digest, bytes)
  return Readable.from([Buffer.from(bytes.subarray(offset))], { objectMode: false })
}

/** One connection after another to the sources of `pool`. */
function contentSource({ endpoint, descriptor, manifest }: RemoteContent, pool: SourcePool): ContentSource {
  const { digest, size } = descriptor
  let source = pool.take()
  let [drops, mark] = [0, 0]
  return {
    subject: digest,
    size,
    retry: endpoint.connection.retry,
    async request(range, signal) {
      for (;;) {
        if (source === endpoint) return requestOrigin({ endpoint, descriptor, manifest }, range, signal)
        try {
          const response = await requestContent({ endpoint: source, descriptor, manifest }, range, signal)
          const announced = response.status === 200 ? contentLength(response) : size
          // A mirror that sends all of it for every part would send it many times.
          const isWaste = response.status === 200 && range?.end !== undefined && range.from > 0
          if (response.status !== 416 && (announced ?? size) === size && !isWaste) return response
          response.discard()
          if (isWaste) throw new UnsupportedError(`parts of ${digest}`, 'the mirror does not know ranges')
          throw new SizeMismatchError(digest, size, announced ?? 0)
        } catch (error) {
          signal.throwIfAborted()
          source = pool.replace(source, error)
        }
      }
    },
    move(position, error) {
      if (position - mark >= progressThreshold) {
        drops = 0
        mark = position
      }
      drops++
      if (source === endpoint || drops < maxDrops) return false
      source = pool.replace(source, error)
      drops = 0
      return true
    },
    onResume(position, error) {
      const { registry, notify } = endpoint.connection
      notify({ kind: 'resume', registry, subject: digest, position, error })
      endpoint.onRetry?.(error)
    },
    onEnd: () => pool.release(source),
  }
}

function requestContent(
  { endpoint, descriptor: { digest, mediaType }, manifest }: RemoteContent,
  range: ByteRange | undefined,
  signal: AbortSignal,
): Promise<HttpResponse> {
  return send(endpoint, {
    method: 'GET',
    path: `${manifest ? 'manifests' : 'blobs'}/${digest}`,
    reference: digest,
    actions: ['pull'],
    headers: {
      ...(manifest ? acceptHeader(mediaType) : { accept: '*/*' }),
      ...(range === undefined ? {} : { range: rangeHeader(range) }),
    },
    accept: range === undefined ? [200] : [200, 206, 416],
    signal,
  })
}

function rangeHeader({ from, end }: ByteRange): string {
  return `bytes=${from}-${end === undefined ? '' : end - 1}`
}

/** Other places of one foreign layer that are tried. */
const maxUrls = 8

/** What the registry itself answers; of a foreign layer that it has not got, what the places answer that its descriptor names. */
async function requestOrigin(
  content: RemoteContent,
  range: ByteRange | undefined,
  signal: AbortSignal,
): Promise<HttpResponse> {
  const { endpoint, descriptor } = content
  const { connection, repository } = endpoint
  const urls = (descriptor.urls ?? []).filter((url) => URL.canParse(url)).slice(0, maxUrls)
  try {
    return await requestContent(content, range, signal)
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error
    for (const url of urls.map((text) => new URL(text))) {
      if (refusalOf(connection.origin, url) !== undefined) continue
      const headers = { accept: '*/*', ...(range === undefined ? {} : { range: rangeHeader(range) }) }
      const accept = range === undefined ? [200] : [200, 206, 416]
      const request = {
        method: 'GET',
        url,
        repository,
        scope: '',
        subject: descriptor.digest,
        headers,
        accept,
        signal,
      } as const
      const response = await connection.request(request).catch(() => undefined)
      signal.throwIfAborted()
      if (response !== undefined) return response
    }
    throw error
  }
}
