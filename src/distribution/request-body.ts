import { pipeline, type Readable, Transform, type TransformCallback } from 'node:stream'
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
    done(this.seen === this.#size ? null : new SizeMismatchError(this.#subject, this.#size, this.seen))
  }
}

/** Puts a stream on its way: exact in length, watched for stalls, and sure to be destroyed in the end. */
export function sendBody(subject: string, body: StreamBody, options: OutgoingBodyOptions): OutgoingBody {
  const payload = new SizedBody(subject, body.size)
  let failure: unknown
  // When the connection breaks, the source is destroyed with the connection's error: that is not its own failure.
  body.stream.once('error', (error) => {
    if (!payload.destroyed) failure = error
  })
  payload.once('error', (error) => {
    if (error instanceof SizeMismatchError) failure = error
  })
  let seen = -1
  const timer = setInterval(() => {
    // Buffered bytes and none taken in since the last look: it is the network that does not move.
    if (payload.readableLength > 0 && payload.seen === seen) options.onStall()
    seen = payload.seen
  }, options.stallTimeout)
  const stop = (): void => clearInterval(timer)
  payload.once('close', stop)
  payload.once('end', () => {
    stop()
    options.onSent()
  })
  pipeline(body.stream, payload, () => {})
  return {
    payload,
    failure: () => failure,
    release: () => {
      payload.destroy()
    },
  }
}
