import { Readable } from 'node:stream'
import { collect, verified } from '../content/verify.ts'
import { NotFoundError, SizeMismatchError } from '../errors.ts'
import type { Descriptor } from '../image/descriptor.ts'
import { isVerifiable } from '../image/digest.ts'
import { type ByteRange, type ContentSource, openContent } from './content-stream.ts'
import { type Endpoint, send } from './endpoint.ts'
import { acceptHeader } from './manifests.ts'
import { fromFirst, noteMirrorFailure, sourcesOf } from './mirrors/sources.ts'
import { refusalOf } from './origin.ts'
import { openParallel } from './parallel-content.ts'
import { contentLength } from './response.ts'
import type { HttpResponse } from './transport.ts'

/** Bytes of a blob that is held in memory to verify what a mirror has given. */
const maxBuffered = 1024 * 1024

/** What {@link openFromRegistry} opens. */
export interface RemoteContent {
  readonly endpoint: Endpoint
  readonly descriptor: Descriptor
  /** Whether it is below `manifests/` rather than `blobs/`. */
  readonly manifest: boolean
}

/**
 * Opens a manifest or blob of a repository as a stream that survives dropped connections, and that
 * goes on at the next source where a mirror has not got it or breaks off twice at the same byte. What
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
    const source = contentSource(content)
    return manifest ? openContent(source, offset, signal) : openParallel(source, offset, endpoint.ranges, signal)
  }
  const bytes = await fromFirst(endpoint, descriptor.digest, signal, async (source) => {
    const one = { ...source, mirrors: [] }
    const stream = await openContent(contentSource({ ...content, endpoint: one }), 0, signal)
    return collect(verified(descriptor, stream, { signal }))
  })
  if (manifest) endpoint.manifests.set(descriptor.digest, bytes)
  return Readable.from([Buffer.from(bytes.subarray(offset))], { objectMode: false })
}

function contentSource({ endpoint, descriptor, manifest }: RemoteContent): ContentSource {
  const { digest, size } = descriptor
  const sources = sourcesOf(endpoint, digest)
  let index = 0
  let lastDrop = -1
  const pass = (error: unknown): void => {
    const source = sources[index]
    if (source !== undefined) noteMirrorFailure(endpoint, source, digest, error)
    index++
  }
  return {
    subject: digest,
    size,
    retry: endpoint.connection.retry,
    async request(range, signal) {
      for (;;) {
        const source = sources[index] ?? endpoint
        if (source === endpoint) return requestOrigin({ endpoint, descriptor, manifest }, range, signal)
        try {
          const response = await requestContent({ endpoint: source, descriptor, manifest }, range, signal)
          const announced = response.status === 200 ? contentLength(response) : size
          if (response.status !== 416 && (announced ?? size) === size) return response
          response.discard()
          throw new SizeMismatchError(digest, size, announced ?? 0)
        } catch (error) {
          signal.throwIfAborted()
          pass(error)
        }
      }
    },
    onResume(position, error) {
      const { registry, notify } = endpoint.connection
      notify({ kind: 'resume', registry, subject: digest, position, error })
      endpoint.onRetry?.(error)
      if (position === lastDrop && index < sources.length - 1) pass(error)
      lastDrop = position
    },
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
