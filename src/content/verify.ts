import { Buffer } from 'node:buffer'
import { type Readable, Transform, type TransformCallback } from 'node:stream'
import { DigestMismatchError, LimitError, SizeMismatchError } from '../errors.ts'
import { type Descriptor, embeddedContent } from '../image/descriptor.ts'
import { createDigester, type Digester, digestAlgorithm, isVerifiable } from '../image/digest.ts'
import type { ContentOptions, Fetcher } from './interfaces.ts'
import { destroyOnAbort } from './stream-abort.ts'

/** Options of {@link verified}. */
export interface VerifyOptions extends ContentOptions {
  /** Called for each piece that passes, with its bytes. An error it throws ends the stream. */
  readonly onBytes?: ((bytes: number) => void) | undefined
}

/**
 * Passes the content of `source` on and checks it against its descriptor on the way: first the size,
 * then the digest (image-spec, descriptor.md, "Verification"). The stream that is returned errors
 * before its `end` when either is wrong, never gives a byte beyond `descriptor.size`, and stops
 * reading the source there. Of a digest whose algorithm can't be computed only the size is checked.
 *
 * Destroying the returned stream destroys the source. A stream that has been verified against the
 * same descriptor already is returned as it is, so that nothing is hashed twice.
 *
 * Errors of the stream: SizeMismatchError, DigestMismatchError, the source's own, the signal's reason.
 */
export function verified(descriptor: Descriptor, source: Readable, options: VerifyOptions = {}): Readable {
  if (source instanceof Verifier && source.checks(descriptor) && options.onBytes === undefined) {
    return destroyOnAbort(source, options.signal)
  }
  const verifier = new Verifier(descriptor, options.onBytes)
  // Who reads the stream learns of its error also when it comes before they have begun to listen.
  verifier.on('error', () => {})
  const onSourceError = (error: Error): void => {
    verifier.destroy(error)
  }
  const onSourceClose = (): void => {
    // Closed without an end or an error: the rest of the content is missing.
    if (!source.readableEnded && !verifier.writableEnded) verifier.destroy(verifier.shortage())
  }
  source.on('error', onSourceError)
  source.once('close', onSourceClose)
  // The listener for errors stays: one that comes late must not end the process.
  verifier.once('close', () => {
    source.off('close', onSourceClose)
    source.destroy()
  })
  if (source.errored) verifier.destroy(source.errored)
  else if (source.destroyed) verifier.destroy(verifier.shortage())
  else source.pipe(verifier)
  return destroyOnAbort(verifier, options.signal)
}

/**
 * Reads content whole into memory, verified. What a descriptor carries in `data` is taken from there,
 * without asking the fetcher.
 * @throws LimitError when the content is larger than `limit` bytes, before a byte of it is read.
 * @throws SizeMismatchError
 * @throws DigestMismatchError
 */
export async function readAll(
  fetcher: Fetcher,
  descriptor: Descriptor,
  limit: number,
  options: ContentOptions = {},
): Promise<Uint8Array> {
  options.signal?.throwIfAborted()
  if (descriptor.size > limit) throw new LimitError(descriptor.digest, limit, 'bytes')
  const embedded = embeddedContent(descriptor)
  if (embedded !== undefined) return embedded
  const source = await fetcher.fetch(descriptor, { signal: options.signal })
  return collect(verified(descriptor, source, { signal: options.signal }))
}

/** All bytes of a stream of bytes; the caller has bounded it. */
export async function collect(stream: Readable): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  for await (const chunk of stream) chunks.push(chunk as Uint8Array)
  return Buffer.concat(chunks)
}

/** The first bytes of content. */
export interface Begun {
  /** Has them; undefined when they can't be hashed. */
  readonly digester: Digester | undefined
  /** How many they are. */
  readonly bytes: number
}

/** Checks content against its descriptor piece by piece, from its beginning or from where it was left. */
export class Verification {
  readonly descriptor: Descriptor
  readonly #digester: Digester | undefined
  #seen: number

  constructor(descriptor: Descriptor, begun?: Begun) {
    this.descriptor = descriptor
    this.#digester = begun === undefined ? digesterOf(descriptor) : begun.digester
    this.#seen = begun?.bytes ?? 0
  }

  /** Takes the next piece. @throws SizeMismatchError when it goes beyond the size. */
  add(chunk: Uint8Array): void {
    const { digest, size } = this.descriptor
    if (this.#seen + chunk.byteLength > size) throw new SizeMismatchError(digest, size, size + 1)
    this.#seen += chunk.byteLength
    this.#digester?.update(chunk)
  }

  /** To be called once, when all has been taken. @throws SizeMismatchError @throws DigestMismatchError */
  end(): void {
    const { digest, size } = this.descriptor
    if (this.#seen < size) throw this.shortage()
    const actual = this.#digester?.digest() ?? digest
    if (actual !== digest) throw new DigestMismatchError(digest, actual)
  }

  /** What is wrong when nothing more comes. */
  shortage(): SizeMismatchError {
    return new SizeMismatchError(this.descriptor.digest, this.descriptor.size, this.#seen)
  }
}

function digesterOf({ digest }: Descriptor): Digester | undefined {
  return isVerifiable(digest) ? createDigester(digestAlgorithm(digest)) : undefined
}

class Verifier extends Transform {
  readonly #verification: Verification
  readonly #onBytes: ((bytes: number) => void) | undefined

  constructor(descriptor: Descriptor, onBytes: ((bytes: number) => void) | undefined) {
    super({ decodeStrings: true, highWaterMark: 256 * 1024 })
    this.#verification = new Verification(descriptor)
    this.#onBytes = onBytes
  }

  /** Whether it gives the whole content of a descriptor. */
  checks({ digest, size }: Descriptor): boolean {
    const { descriptor } = this.#verification
    return digest === descriptor.digest && size === descriptor.size
  }

  shortage(): SizeMismatchError {
    return this.#verification.shortage()
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    try {
      this.#verification.add(chunk)
      this.#onBytes?.(chunk.byteLength)
    } catch (error) {
      done(error instanceof Error ? error : new Error(String(error)))
      return
    }
    done(null, chunk)
  }

  override _flush(done: TransformCallback): void {
    try {
      this.#verification.end()
      done(null)
    } catch (error) {
      done(error as Error)
    }
  }
}
