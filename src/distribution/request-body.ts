import { type Readable, Transform, type TransformCallback } from 'node:stream'
import { SizeMismatchError } from '../errors.ts'

/** A body whose bytes come once. */
export interface StreamBody {
  readonly stream: Readable
  /** Bytes; the stream must have exactly as many. */
  readonly size: number
}

/** A stream body on its way to the network. */
export interface OutgoingBody {
  readonly payload: Readable
  /** What was wrong with the body itself, as opposed to the connection. */
  failure(): unknown
  /** Gives up what has not been sent; destroys the source. */
  release(): void
}

/** What happens while a body is sent. Times in milliseconds. */
export interface OutgoingBodyOptions {
  readonly stallTimeout: number
  /** The network took nothing for `stallTimeout`, although there was something to take. */
  onStall(): void
  /** The last byte has been handed to the network. */
  onSent(): void
  /** The body itself is at fault: the source failed, or has another length. */
  onFailure(error: Error): void
}

/** Passes exactly `size` bytes on, so that no request has another length than its `Content-Length` says. */
class SizedBody extends Transform {
  readonly #subject: string
  readonly #size: number
  /** Bytes that came in so far. */
  seen = 0

  constructor(subject: string, size: number) {
    super({ highWaterMark: 256 * 1024 })
    this.#subject = subject
    this.#size = size
  }

  override _transform(chunk: Uint8Array, _encoding: BufferEncoding, done: TransformCallback): void {
    this.seen += chunk.byteLength
    if (this.seen > this.#size) done(new SizeMismatchError(this.#subject, this.#size, this.seen))
    else done(null, chunk)
  }

  override _flush(done: TransformCallback): void {
    done(this.seen === this.#size ? null : this.shortage())
  }

  shortage(): SizeMismatchError {
    return new SizeMismatchError(this.#subject, this.#size, this.seen)
  }
}

/** Puts a stream on its way: exact in length, watched for stalls, and sure to be destroyed in the end. */
export function sendBody(subject: string, body: StreamBody, options: OutgoingBodyOptions): OutgoingBody {
  const payload = new SizedBody(subject, body.size)
  let failure: unknown
  const fail = (error: Error): void => {
    failure ??= error
    payload.destroy(error)
    options.onFailure(error)
  }
  // No `pipeline`: it would destroy the source with the connection's error, and which of the two failed could not be told.
  body.stream.on('error', fail)
  body.stream.once('close', () => {
    if (!body.stream.readableEnded && !payload.destroyed) fail(payload.shortage())
  })
  payload.on('error', (error) => {
    if (error instanceof SizeMismatchError) fail(error)
  })
  let seen = -1
  const timer = setInterval(() => {
    // Buffered bytes and none taken in since the last look: it is the network that does not move.
    if (payload.readableLength > 0 && payload.seen === seen) options.onStall()
    seen = payload.seen
  }, options.stallTimeout)
  const stop = (): void => clearInterval(timer)
  payload.once('close', () => {
    stop()
    body.stream.destroy()
  })
  payload.once('end', () => {
    stop()
    options.onSent()
  })
  // What went wrong with the source before this request has been announced to others.
  if (body.stream.errored) fail(body.stream.errored)
  else if (body.stream.destroyed) fail(payload.shortage())
  else body.stream.pipe(payload)
  return {
    payload,
    failure: () => failure,
    release: () => {
      payload.destroy()
    },
  }
}
