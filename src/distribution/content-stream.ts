import { Readable } from 'node:stream'
import { markOwnPieces } from '../content/own-pieces.ts'
import { destroyOnAbort } from '../content/stream-abort.ts'
import { NetworkError, ProtocolError, SizeMismatchError, TimeoutError } from '../errors.ts'
import { delay } from '../internal/abort.ts'
import { redactUrl } from '../internal/redact.ts'
import { quote } from '../internal/text.ts'
import { contentLength } from './response.ts'
import { backoff, type RetryPolicy } from './retry.ts'
import { StallTimer } from './stall-timer.ts'
import { type HttpResponse, networkError } from './transport.ts'

/** A part of content; offsets in bytes. */
export interface ByteRange {
  readonly from: number
  /** The first byte that is not part of it; undefined for the rest of the content. */
  readonly end: number | undefined
}

/** What {@link openContent} reads. */
export interface ContentSource {
  /** Digest or reference, for messages. */
  readonly subject: string
  /** Bytes of the whole content. */
  readonly size: number
  /**
   * Requests the content: a part of it by `Range` when one is given, else all of it. Returns
   * statuses 200, 206 and 416, and throws for any other.
   */
  request(range: ByteRange | undefined, signal: AbortSignal): Promise<HttpResponse>
  readonly retry: RetryPolicy
  /** Told that the content broke off; whether the rest comes from elsewhere, where failures are counted anew. */
  move?(position: number, error: unknown): boolean
  /** Told when the rest is going to be requested. */
  onResume?(position: number, error: unknown): void
  /** Told once, when nothing more is going to be requested. */
  onEnd?(): void
}

/** Bytes that a connection must have brought for the count of failures to begin anew. */
export const progressThreshold: number = 256 * 1024

/**
 * Opens content of a known size as a stream that survives dropped connections: it asks for the rest
 * by `Range`, or, where the server sends everything again, skips what it has already passed on.
 * Nothing is verified but the length.
 */
export async function openContent(source: ContentSource, offset: number, signal?: AbortSignal): Promise<Readable> {
  return (await openRange(source, offset, source.size, signal)).stream
}

/** {@link openContent} up to the byte before `end`, and whether the server has sent a part rather than the whole. */
export async function openRange(
  source: ContentSource,
  offset: number,
  end: number,
  signal: AbortSignal | undefined,
): Promise<{ readonly stream: Readable; readonly ranged: boolean }> {
  signal?.throwIfAborted()
  const stream = destroyOnAbort(new ContentStream(source, offset, end), signal)
  // It may fail before its reader has begun to listen; they learn of it when they read.
  stream.on('error', () => {})
  try {
    await stream.open()
  } catch (error) {
    stream.destroy()
    throw error
  }
  return { stream, ranged: stream.ranged }
}

/** A body that is being read. */
interface Part {
  readonly body: Readable
  readonly url: URL
  readonly stall: StallTimer
  /** Whether it began before the position: the server sent again what we had. */
  readonly resent: boolean
  /** Bytes that still lie before the position. */
  skip: number
}

class ContentStream extends Readable {
  readonly #source: ContentSource
  readonly #controller: AbortController = new AbortController()
  /** Offset in the content of the next byte to pass on. */
  #position: number
  /** The position when the count of failures last began. */
  #mark: number
  #failures = 0
  #part: Part | undefined
  /** The server's answers to ranges can't be used. */
  #noRange = false
  /** Where to stop: the end of the content, or of the part of it that is wanted. */
  readonly #end: number
  /** Whether the last answer was a part of the content. */
  ranged = false

  constructor(source: ContentSource, offset: number, end: number) {
    super({ highWaterMark: 256 * 1024 })
    this.#source = source
    this.#position = offset
    this.#mark = offset
    this.#end = end
  }

  /** Requests what is missing and begins to read it. */
  async open(): Promise<void> {
    const whole = this.#position === 0 && this.#end === this.#source.size
    const from = whole || this.#noRange ? undefined : this.#position
    const end = this.#end === this.#source.size ? undefined : this.#end
    const range = from === undefined ? undefined : { from, end }
    const response = await this.#source.request(range, this.#controller.signal)
    if (this.destroyed) return response.discard()
    this.ranged = response.status === 206
    const start = startOf(response, this.#source, this.#position)
    if (response.ownPieces) markOwnPieces(this)
    if (start === from || start === 0) return this.#attach(response, this.#position - start)
    response.discard()
    if (from === undefined) throw new ProtocolError(redactUrl(response.url), 'answered a plain GET with a range')
    this.#noRange = true
    return this.open()
  }

  override _read(): void {
    if (!this.#part?.body.isPaused()) return
    this.#part.stall.progress()
    this.#part.body.resume()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#detach()
    this.#source.onEnd?.()
    this.#controller.abort(error ?? undefined)
    done(error)
  }

  #attach({ body, url, stallTimeout }: HttpResponse, skip: number): void {
    const stall = new StallTimer(stallTimeout, () =>
      this.#drop(new TimeoutError('the next part of the content', stallTimeout)),
    )
    const part: Part = { body, url, stall, resent: skip > 0, skip }
    this.#part = part
    stall.progress()
    const current = (action: () => void) => (): void => {
      if (this.#part === part) action()
    }
    body.once(
      'end',
      current(() => this.#drop(undefined)),
    )
    body.once(
      'close',
      current(() => this.#drop(new Error('the connection was closed'))),
    )
    body.on('error', (error) => current(() => this.#drop(error))())
    body.on('data', (chunk: Uint8Array) => {
      if (this.#part === part) this.#accept(part, chunk)
    })
  }

  #detach(): void {
    this.#part?.stall.stop()
    const body = this.#part?.body
    this.#part = undefined
    body?.destroy()
  }

  #accept(part: Part, chunk: Uint8Array): void {
    part.stall.progress(chunk.byteLength)
    const skipped = Math.min(part.skip, chunk.byteLength)
    part.skip -= skipped
    if (skipped === chunk.byteLength) return
    const { subject, size } = this.#source
    const wanted = this.#end === size ? chunk.byteLength : skipped + this.#end - this.#position
    const bytes = chunk.subarray(skipped, wanted)
    this.#position += bytes.byteLength
    if (this.#position > size) {
      this.destroy(new SizeMismatchError(subject, size, this.#position))
      return
    }
    const more = this.push(bytes)
    // A server may send more than the part it was asked for. One that does not is left its connection.
    const excess = !this.ranged || wanted < chunk.byteLength
    if (this.#position === this.#end && this.#end < size && excess) this.#drop(undefined)
    else if (!more) {
      part.body.pause()
      part.stall.rest()
    }
  }

  /** The body has ended or broken off: is all of it there, or where does the rest come from? */
  #drop(cause: unknown): void {
    const part = this.#part
    this.#detach()
    const { subject, size, retry } = this.#source
    if (this.#position === this.#end) {
      this.push(null)
      return
    }
    // A server that sends everything again can't be asked without end: the cost grows with the square of the size.
    if (this.#position - this.#mark >= progressThreshold && part?.resent !== true) {
      this.#mark = this.#position
      this.#failures = 0
    }
    this.#failures++
    if (this.#source.move?.(this.#position, cause) === true) this.#failures = 0
    if (this.#failures >= retry.attempts) {
      const url = part?.url
      if (cause === undefined) this.destroy(new SizeMismatchError(subject, size, this.#position))
      else
        this.destroy(cause instanceof NetworkError || url === undefined ? (cause as Error) : networkError(url, cause))
      return
    }
    this.#source.onResume?.(this.#position, cause)
    this.#reopen().catch((error: unknown) => {
      if (this.destroyed) return
      if (error instanceof NetworkError) this.#drop(error)
      else this.destroy(error as Error)
    })
  }

  async #reopen(): Promise<void> {
    const wait = this.#failures <= 1 ? 0 : backoff(this.#failures - 1, this.#source.retry)
    await delay(wait, this.#controller.signal)
    await this.open()
  }
}

/** Offset in the content of a response's first byte. Throws when the response is not about content of that size. */
function startOf(response: HttpResponse, { subject, size }: ContentSource, position: number): number {
  const mismatch = (actual: number): never => {
    response.discard()
    throw new SizeMismatchError(subject, size, actual)
  }
  if (response.status === 416) return mismatch(position)
  if (response.status === 200) {
    const announced = contentLength(response)
    return announced === undefined || announced === size ? 0 : mismatch(announced)
  }
  const header = response.headers.get('content-range') ?? ''
  const [, start, total] = /^bytes (\d{1,15})-\d{1,15}\/(\d{1,15}|\*)$/i.exec(header) ?? []
  if (start === undefined) {
    response.discard()
    throw new ProtocolError(redactUrl(response.url), `answered 206 with the content range ${quote(header)}`)
  }
  return total === '*' || Number(total) === size ? Number(start) : mismatch(Number(total))
}
