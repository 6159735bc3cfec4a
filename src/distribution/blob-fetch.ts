import type { Readable } from 'node:stream'
import type { Descriptor } from '../image/descriptor.ts'
import { type ContentSource, openContent } from './content-stream.ts'
import { type Endpoint, send } from './endpoint.ts'
import { acceptHeader } from './manifests.ts'
import type { HttpResponse } from './transport.ts'

/** Opens a manifest or blob of a repository as a stream that survives dropped connections. */
export function openFromRegistry(
  endpoint: Endpoint,
  descriptor: Descriptor,
  manifest: boolean,
  offset: number,
  signal: AbortSignal | undefined,
): Promise<Readable> {
  const { digest, size } = descriptor
  const { retry, registry, notify } = endpoint.connection
  const source: ContentSource = {
    subject: digest,
    size,
    retry,
    request: (range, inner) => requestContent(endpoint, descriptor, manifest, range, inner),
    onResume: (position, error) => notify({ kind: 'resume', registry, subject: digest, position, error }),
  }
  return openContent(source, offset, signal)
}

function requestContent(
  endpoint: Endpoint,
  { digest, mediaType }: Descriptor,
  manifest: boolean,
  from: number | undefined,
  signal: AbortSignal,
): Promise<HttpResponse> {
  return send(endpoint, {
    method: 'GET',
    path: `${manifest ? 'manifests' : 'blobs'}/${digest}`,
    reference: digest,
    actions: ['pull'],
    headers: {
      ...(manifest ? acceptHeader(mediaType) : { accept: '*/*' }),
      ...(from === undefined ? {} : { range: `bytes=${from}-` }),
    },
    accept: from === undefined ? [200] : [200, 206, 416],
    signal,
  })
}
