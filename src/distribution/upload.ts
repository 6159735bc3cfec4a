import { NetworkError, ProtocolError, RegistryError } from '../errors.ts'
import type { Descriptor } from '../image/descriptor.ts'
import { redactUrl } from '../internal/redact.ts'
import { type Endpoint, send } from './endpoint.ts'
import { assertStored } from './manifests.ts'
import { refusalOf } from './origin.ts'
import type { StreamBody } from './request-body.ts'
import { isTransientError, isTransientStatus, retrying } from './retry.ts'
import type { HttpResponse } from './transport.ts'

/** Milliseconds a registry gets to store a blob whose last byte it has; it may have to copy it. */
const commitTimeout = 5 * 60_000
/** Milliseconds that cancelling an upload may take; what a registry does with abandoned ones is its own affair. */
const cancelTimeout = 5_000

/**
 * Uploads a blob: POST opens the upload, one PUT carries the content (distribution-spec, "POST then
 * PUT"). When it fails or is aborted, the upload is cancelled. Bytes in memory are sent again after a
 * passing failure; a stream can't be.
 */
export function uploadBlob(
  endpoint: Endpoint,
  descriptor: Descriptor,
  content: Uint8Array | StreamBody,
  signal: AbortSignal | undefined,
): Promise<void> {
  return retrying(endpoint.connection.retry, signal, async () => {
    try {
      return { value: await uploadOnce(endpoint, descriptor, content, signal) }
    } catch (error) {
      if (content instanceof Uint8Array && mayPass(error)) return { error }
      throw error
    }
  })
}

function mayPass(error: unknown): boolean {
  if (error instanceof RegistryError) return isTransientStatus(error.status)
  return error instanceof NetworkError && isTransientError(error)
}

async function uploadOnce(
  endpoint: Endpoint,
  { digest }: Descriptor,
  content: Uint8Array | StreamBody,
  signal: AbortSignal | undefined,
): Promise<void> {
  const request = { actions: ['pull', 'push'], reference: digest, signal } as const
  const body = new Uint8Array()
  const opened = await send(endpoint, { ...request, method: 'POST', path: 'blobs/uploads/', body, accept: [202] })
  opened.discard()
  const location = uploadLocation(opened)
  try {
    const stored = await send(endpoint, {
      ...request,
      method: 'PUT',
      path: withDigest(location, digest),
      headers: { 'content-type': 'application/octet-stream' },
      body: content,
      accept: [201],
      once: true,
      headersTimeout: commitTimeout,
    })
    stored.discard()
    assertStored(stored, digest)
  } catch (error) {
    await cancel(endpoint, location)
    throw error
  }
}

/** Where the content goes: relative or absolute, on this host or another one (which gets no credential). */
function uploadLocation(response: HttpResponse): URL {
  const location = response.headers.get('location')
  const refuse = (reason: string): never => {
    throw new ProtocolError(redactUrl(response.url), `names an upload location that is not used: ${reason}`)
  }
  if (location === null || !URL.canParse(location, response.url.href)) return refuse('it is no valid URL')
  const target = new URL(location, response.url)
  target.hash = ''
  const reason = refusalOf(response.url, target)
  return reason === undefined ? target : refuse(`${redactUrl(target)}: ${reason}`)
}

/** The rest of the query stays as the registry has written it: it may be signed. */
function withDigest(location: URL, digest: string): URL {
  const url = new URL(location)
  url.search += `${url.search === '' ? '?' : '&'}digest=${encodeURIComponent(digest)}`
  return url
}

async function cancel(endpoint: Endpoint, location: URL): Promise<void> {
  try {
    const response = await send(endpoint, {
      method: 'DELETE',
      path: location,
      actions: ['pull', 'push'],
      accept: [200, 202, 204],
      once: true,
      signal: AbortSignal.timeout(cancelTimeout),
    })
    response.discard()
  } catch {
    // The failure that led here is the one to tell.
  }
}
