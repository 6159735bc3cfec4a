import { LimitError, type NetworkError, RegistryError, type RegistryErrorDetail, TimeoutError } from '../errors.ts'
import { onAbort } from '../internal/abort.ts'
import { redactText, redactUrl } from '../internal/redact.ts'
import { StallTimer } from './stall-timer.ts'
import { type HttpResponse, networkError } from './transport.ts'

/** Bytes of an error response that are read. */
const errorBodyLimit = 64 * 1024
/** Errors of one response that are kept. */
const maxDetails = 16

/**
 * Reads the whole body of a response.
 * @throws LimitError as soon as it has more than `limit` bytes, or announces more.
 * @throws NetworkError when it breaks off.
 */
export async function readBody(
  response: HttpResponse,
  limit: number,
  subject: string,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const announced = contentLength(response)
  if (announced !== undefined && announced > limit && response.method !== 'HEAD') {
    response.body.on('error', () => {}).destroy()
    throw new LimitError(subject, limit, 'bytes')
  }
  const { bytes, complete } = await collect(response, limit, signal)
  if (!complete) throw new LimitError(subject, limit, 'bytes')
  return bytes
}

/** What a response's `Content-Length` says; undefined when it is absent or no number, infinite beyond reason. */
export function contentLength(response: HttpResponse): number | undefined {
  const header = response.headers.get('content-length')
  if (header === null || !/^\d+$/.test(header)) return undefined
  return header.length > 15 ? Number.POSITIVE_INFINITY : Number(header)
}

/** What is wrong when `response` is not one that was hoped for: its errors are read from the body. */
export async function responseError(
  response: HttpResponse,
  subject: string,
  options: {
    readonly hint?: string | undefined
    readonly retryAfter?: number | undefined
    readonly signal?: AbortSignal | undefined
  } = {},
): Promise<RegistryError> {
  let errors: readonly RegistryErrorDetail[] = []
  try {
    errors = parseErrors((await collect(response, errorBodyLimit, options.signal)).bytes)
  } catch {
    // The status says enough.
    options.signal?.throwIfAborted()
  }
  const { method, status } = response
  const { hint, retryAfter } = options
  return new RegistryError({ method, url: redactUrl(response.url), status, errors, subject, hint, retryAfter })
}

/** The error list of distribution-spec ("Error Codes"); other shapes give none. */
function parseErrors(bytes: Uint8Array): readonly RegistryErrorDetail[] {
  const body: unknown = JSON.parse(new TextDecoder().decode(bytes))
  const list: unknown = typeof body === 'object' && body !== null ? Reflect.get(body, 'errors') : undefined
  if (!Array.isArray(list)) return []
  return list.slice(0, maxDetails).flatMap((entry: unknown) => {
    if (typeof entry !== 'object' || entry === null) return []
    const code: unknown = Reflect.get(entry, 'code')
    const message: unknown = Reflect.get(entry, 'message')
    return [{ code: text(code) || 'UNKNOWN', message: text(message) }]
  })
}

function text(value: unknown): string {
  return typeof value === 'string' ? redactText(value) : ''
}

/** Up to `limit` bytes of a body; the rest of a longer one is not read. */
function collect(
  response: HttpResponse,
  limit: number,
  signal: AbortSignal | undefined,
): Promise<{ readonly bytes: Uint8Array; readonly complete: boolean }> {
  const { body, stallTimeout } = response
  return new Promise((resolve, reject) => {
    const chunks: Uint8Array[] = []
    let size = 0
    let unlink: (() => void) | undefined
    const timer = new StallTimer(stallTimeout, () =>
      fail(new TimeoutError('the next part of the response', stallTimeout)),
    )
    const fail = (error: unknown): void => settle(() => reject(networkFailure(response, error)))
    const settle = (finish: () => void): void => {
      timer.stop()
      unlink?.()
      body.off('data', onData)
      body.destroy()
      finish()
    }
    const onData = (chunk: Uint8Array): void => {
      timer.progress(chunk.byteLength)
      size += chunk.byteLength
      if (size > limit) settle(() => resolve({ bytes: concat(chunks), complete: false }))
      else chunks.push(chunk)
    }
    timer.progress()
    body.on('error', fail)
    body.once('end', () => settle(() => resolve({ bytes: concat(chunks), complete: true })))
    body.once('close', () => fail(new Error('the connection was closed')))
    body.on('data', onData)
    // Last: of what was aborted before nothing of that is to stay.
    unlink = onAbort(signal, () => settle(() => reject(signal?.reason)))
  })
}

function networkFailure(response: HttpResponse, error: unknown): NetworkError {
  return networkError(response.url, error)
}

function concat(chunks: readonly Uint8Array[]): Uint8Array {
  return chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks)
}
