import { Fault } from './fault.ts'

/** How much of a body is gathered before it is handed on: bytes, and chunks, for a client may send them tiny. */
const batchSize = 256 * 1024
const batchLength = 256

/**
 * The body of a request in batches of about 256 KiB: a write for each small chunk would cost more
 * than the bytes. When the body breaks off, what came before is handed on first.
 */
export async function* batches(body: ReadableStream<Uint8Array> | null): AsyncGenerator<readonly Uint8Array[]> {
  if (body === null) return
  const reader = body.getReader()
  let done = false
  try {
    let batch: Uint8Array[] = []
    let size = 0
    for (;;) {
      const next = await reader.read().catch((error: unknown) => ({ broken: error }))
      if ('broken' in next) {
        if (batch.length > 0) yield batch
        throw new Fault('BLOB_UPLOAD_INVALID', 'the body broke off', { cause: next.broken })
      }
      if (next.done) break
      batch.push(next.value)
      size += next.value.byteLength
      if (size < batchSize && batch.length < batchLength) continue
      yield batch
      batch = []
      size = 0
    }
    done = true
    if (batch.length > 0) yield batch
  } finally {
    if (!done) await reader.cancel().catch(() => {})
  }
}

/** Reads a body of at most `limit` bytes. Calls `refuse` for the error when it is longer, as soon as that is known. */
export async function readBody(request: Request, limit: number, refuse: () => Error): Promise<Uint8Array> {
  if ((contentLength(request) ?? 0) > limit) throw refuse()
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const batch of batches(request.body)) {
    for (const chunk of batch) size += chunk.byteLength
    if (size > limit) throw refuse()
    chunks.push(Buffer.concat(batch))
  }
  return Buffer.concat(chunks, size)
}

/** The Content-Length of a request; undefined when it has none, as with chunked transfer. */
export function contentLength(request: Request): number | undefined {
  const header = request.headers.get('content-length')
  return header !== null && /^\d{1,15}$/.test(header) ? Number(header) : undefined
}
