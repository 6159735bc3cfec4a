import { LimitError, NotFoundError, ProtocolError } from '../errors.ts'
import type { Digest } from '../image/digest.ts'
import { delay } from '../internal/abort.ts'
import { redactUrl } from '../internal/redact.ts'
import { quote } from '../internal/text.ts'
import { type Endpoint, send } from './endpoint.ts'
import type { StreamBody } from './request-body.ts'
import { backoff, mayPass } from './retry.ts'
import type { HttpResponse } from './transport.ts'
import { uploadLocation } from './upload-location.ts'
import { maxChunkSize } from './upload-options.ts'

/** Where an upload goes on, is ended or cancelled: at the location of the latest answer, which may hold its state. */
export interface UploadPlace {
  location: URL
}

/**
 * Sends content in chunks (distribution-spec, "Pushing a blob in chunks"). When a chunk does not get
 * through, or the registry has other bytes than we think (416), it is asked how far it got, and gets the
 * rest of the chunk from there. Each answer may move `place`.
 */
export async function sendChunks(
  endpoint: Endpoint,
  digest: Digest,
  opened: HttpResponse,
  place: UploadPlace,
  content: Uint8Array | StreamBody,
  signal: AbortSignal | undefined,
): Promise<void> {
  const size = Math.max(endpoint.upload.chunkSize, leastLength(opened, digest))
  const upload = new ChunkedUpload(endpoint, digest, place, signal)
  for await (const chunk of chunksOf(content, size)) await upload.send(chunk)
}

/** Bytes that every chunk but the last must have, as the registry announces it. */
function leastLength(opened: HttpResponse, digest: Digest): number {
  const header = opened.headers.get('oci-chunk-min-length')?.trim() ?? '0'
  if (!/^\d{1,15}$/.test(header)) return 0
  if (Number(header) > maxChunkSize) throw new LimitError(`the least chunk for ${digest}`, maxChunkSize, 'bytes')
  return Number(header)
}

class ChunkedUpload {
  readonly #place: UploadPlace
  readonly #endpoint: Endpoint
  readonly #digest: Digest
  readonly #signal: AbortSignal | undefined
  /** Bytes that the registry has. */
  #position = 0

  constructor(endpoint: Endpoint, digest: Digest, place: UploadPlace, signal: AbortSignal | undefined) {
    this.#endpoint = endpoint
    this.#digest = digest
    this.#place = place
    this.#signal = signal
  }

  async send(chunk: Uint8Array): Promise<void> {
    const start = this.#position
    const end = start + chunk.byteLength
    let failures = 0
    let first: unknown
    while (this.#position < end) {
      const before = this.#position
      const failure = await this.#attempt(chunk.subarray(before - start), first)
      if (failure === undefined) this.#position = end
      else {
        first ??= failure
        this.#endpoint.onRetry?.(failure)
        await this.#catchUp(start, end, first)
      }
      if (this.#position > before) {
        failures = 0
        continue
      }
      failures++
      const { retry } = this.#endpoint.connection
      if (failures >= retry.attempts) throw failure
      await delay(backoff(failures, retry), this.#signal)
    }
  }

  /**
   * Sends what is left of a chunk; returns what went wrong when it may be mended. Where the upload does
   * not outlive a drop, as with docker-registry, `earlier` is what is told: the drop itself.
   */
  async #attempt(rest: Uint8Array, earlier: unknown): Promise<unknown> {
    const range = `${this.#position}-${this.#position + rest.byteLength - 1}`
    try {
      const response = await send(this.#endpoint, {
        method: 'PATCH',
        path: this.#place.location,
        actions: ['pull', 'push'],
        reference: this.#digest,
        headers: { 'content-type': 'application/octet-stream', 'content-range': range },
        body: rest,
        accept: [202, 409, 416],
        once: true,
        signal: this.#signal,
      })
      response.discard()
      // 409: the chunk before, whose connection broke, is still being written.
      if (response.status !== 202) {
        return new ProtocolError(redactUrl(response.url), `takes no bytes ${range} of ${this.#digest}`)
      }
      this.#place.location = uploadLocation(response)
      return undefined
    } catch (error) {
      if (mayPass(error)) return error
      throw error instanceof NotFoundError ? (earlier ?? error) : error
    }
  }

  /**
   * Asks how far the registry got. What lies before or behind the chunk at hand can't be sent. Where the
   * upload is gone, what went wrong before is told.
   */
  async #catchUp(start: number, end: number, earlier: unknown): Promise<void> {
    const response = await send(this.#endpoint, {
      method: 'GET',
      path: this.#place.location,
      actions: ['pull', 'push'],
      reference: this.#digest,
      accept: [200, 202, 204, 404, 416],
      signal: this.#signal,
    })
    response.discard()
    if (response.status === 404 || response.status === 416) throw earlier
    if (response.headers.get('location') !== null) this.#place.location = uploadLocation(response)
    const header = response.headers.get('range')?.trim() ?? ''
    const last = /^(?:bytes=)?0-(\d{1,15})$/.exec(header)?.[1]
    // `0-0` is what registries say of an upload that is empty.
    const received = header === '' || header === '0-0' || header === '0--1' ? 0 : Number(last) + 1
    if (received >= start && received <= end) this.#position = received
    else {
      throw new ProtocolError(redactUrl(response.url), `lost its place in ${this.#digest}: it has ${quote(header)}`)
    }
  }
}

/** Content in pieces of `size` bytes; the last one may be shorter. */
async function* chunksOf(content: Uint8Array | StreamBody, size: number): AsyncGenerator<Uint8Array, void, undefined> {
  if (content instanceof Uint8Array) {
    for (let at = 0; at < content.byteLength; at += size) yield content.subarray(at, at + size)
    return
  }
  let parts: Uint8Array[] = []
  let held = 0
  for await (const part of content.stream) {
    let rest = part as Uint8Array
    while (held + rest.byteLength >= size) {
      yield Buffer.concat([...parts, rest.subarray(0, size - held)])
      rest = rest.subarray(size - held)
      parts = []
      held = 0
    }
    parts.push(rest)
    held += rest.byteLength
  }
  if (held > 0) yield Buffer.concat(parts)
}
