import { RegistryError } from '../errors.ts'
import type { Descriptor } from '../image/descriptor.ts'
import { digestAlgorithm } from '../image/digest.ts'
import { sendChunks } from './chunked-upload.ts'
import { type Endpoint, send } from './endpoint.ts'
import { assertStored } from './manifests.ts'
import type { StreamBody } from './request-body.ts'
import { type Attempt, failedAttempt, retrying } from './retry.ts'
import type { HttpResponse } from './transport.ts'
import { uploadLocation, withDigest } from './upload-location.ts'

/** Milliseconds a registry gets to store a blob whose last byte it has; it may have to copy it. */
const commitTimeout = 5 * 60_000
/** Milliseconds that cancelling an upload may take; what a registry does with abandoned ones is its own affair. */
const cancelTimeout = 5_000

/**
 * Uploads a blob in the way that the client was told: all of it in one PUT, in one POST, or in
 * chunks (distribution-spec, "Pushing blobs"). When it fails or is aborted, the upload is cancelled.
 * Bytes in memory are sent again after a passing failure; a stream can't be, but for its last chunk.
 */
export function uploadBlob(
  endpoint: Endpoint,
  descriptor: Descriptor,
  content: Uint8Array | StreamBody,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { connection } = endpoint
  const attempt = async (): Promise<Attempt<void>> => {
    try {
      return { value: await uploadOnce(endpoint, descriptor, content, signal) }
    } catch (error) {
      if (!(content instanceof Uint8Array)) throw error
      return failedAttempt(error)
    }
  }
  return retrying(connection.retry, signal, attempt, (delay, error) => {
    connection.notifyRetry(descriptor.digest, delay, error)
    endpoint.onRetry?.(error)
  })
}

/**
 * Asks the registry to take a blob over from another of its repositories, or without `from` from
 * whichever has it. False when it does not; then nothing has changed.
 */
export async function mountBlob(
  endpoint: Endpoint,
  { digest }: Descriptor,
  from: string | undefined,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const query = new URLSearchParams({ mount: digest, ...(from === undefined ? {} : { from }) })
  let response: HttpResponse
  try {
    response = await send(endpoint, {
      method: 'POST',
      path: `blobs/uploads/?${query}`,
      actions: ['pull', 'push'],
      reference: digest,
      from,
      body: new Uint8Array(),
      accept: [201, 202],
      signal,
    })
  } catch (error) {
    // Whatever is wrong with the mount, the upload that follows will do or say better.
    if (signal?.aborted !== true && error instanceof RegistryError) return false
    if (error instanceof Error && error.cause instanceof RegistryError) return false
    throw error
  }
  response.discard()
  if (response.status === 201) return true
  if (response.headers.get('location') !== null) await cancel(endpoint, uploadLocation(response))
  return false
}

async function uploadOnce(
  endpoint: Endpoint,
  { digest }: Descriptor,
  content: Uint8Array | StreamBody,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { method, chunkSize } = endpoint.upload
  const whole = method === 'post' && content instanceof Uint8Array && content.byteLength <= chunkSize
  const opened = await open(endpoint, digest, whole ? content : undefined, signal)
  if (opened.status === 201) return
  const place = { location: uploadLocation(opened) }
  try {
    const chunked = method === 'patch'
    if (chunked) await sendChunks(endpoint, digest, opened, place, content, signal)
    await commit(endpoint, digest, place.location, chunked ? new Uint8Array() : content, signal)
  } catch (error) {
    await cancel(endpoint, place.location)
    throw error
  }
}

/** Opens an upload; status 201 says that the registry has taken the whole content at once. */
async function open(
  endpoint: Endpoint,
  digest: Descriptor['digest'],
  whole: Uint8Array | undefined,
  signal: AbortSignal | undefined,
): Promise<HttpResponse> {
  const algorithm = digestAlgorithm(digest)
  const query = new URLSearchParams({
    ...(whole === undefined ? {} : { digest }),
    ...(whole === undefined && algorithm !== 'sha256' ? { 'digest-algorithm': algorithm } : {}),
  }).toString()
  const opened = await send(endpoint, {
    method: 'POST',
    path: query === '' ? 'blobs/uploads/' : `blobs/uploads/?${query}`,
    actions: ['pull', 'push'],
    reference: digest,
    headers: whole === undefined ? {} : { 'content-type': 'application/octet-stream' },
    body: whole ?? new Uint8Array(),
    accept: whole === undefined ? [202] : [201, 202],
    signal,
  })
  opened.discard()
  if (opened.status === 201) assertStored(opened, digest)
  return opened
}

/** Ends an upload with the content, or the rest of it. */
async function commit(
  endpoint: Endpoint,
  digest: Descriptor['digest'],
  location: URL,
  body: Uint8Array | StreamBody,
  signal: AbortSignal | undefined,
): Promise<void> {
  const stored = await send(endpoint, {
    method: 'PUT',
    path: withDigest(location, digest),
    actions: ['pull', 'push'],
    reference: digest,
    headers: { 'content-type': 'application/octet-stream' },
    body,
    accept: [201],
    once: true,
    headersTimeout: commitTimeout,
    signal,
  })
  stored.discard()
  assertStored(stored, digest)
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
