import { type FileHandle, open } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { ConflictError } from '../errors.ts'
import type { Descriptor } from '../image/descriptor.ts'
import type { Digest } from '../image/digest.ts'
import { untilAborted } from '../internal/abort.ts'
import { hasCode } from '../internal/file-error.ts'
import type { ContentOptions, ContentStore, Fetcher, ReceiveOptions, Receiver } from './interfaces.ts'
import { hasOwnPieces, markOwnPieces } from './own-pieces.ts'

/** Bytes that are read at a time. */
const chunkSize = 1024 * 1024

/**
 * Content that can be read while it arrives. What is pushed to {@link Arrivals.target} arrives at a store, and whoever
 * fetches it from here gets what is there of it so far, and waits for the rest. What they read has not been verified,
 * but their stream ends only when all of it has been.
 */
export class Arrivals implements Fetcher {
  /** The store, to be copied to. */
  readonly target: ContentStore & Receiver
  readonly #store: ContentStore & Receiver
  readonly #arrivals = new Map<Digest, Arrival>()
  #isOver = false

  constructor(store: ContentStore & Receiver) {
    this.#store = store
    this.target = {
      fetch: (descriptor, options) => store.fetch(descriptor, options),
      exists: (descriptor, options) => this.#exists(descriptor, options),
      push: (descriptor, content, options) => this.#push(descriptor, content, options),
      receive: (descriptor, from, options) => this.#receive(descriptor, from, options),
      resolve: (reference, options) => store.resolve(reference, options),
      tag: (descriptor, reference, options) => store.tag(descriptor, reference, options),
    }
  }

  async fetch(descriptor: Descriptor, { signal }: ContentOptions = {}): Promise<Readable> {
    // One piece at a time: of several, whoever iterates the stream would get a copy in one.
    const stream = Readable.from(this.#read(descriptor, signal), { objectMode: false, highWaterMark: 1 })
    markOwnPieces(stream)
    // Who reads the stream learns of its error also when it comes before they have begun to listen.
    return stream.on('error', () => {})
  }

  /** Says that nothing more will arrive: the store has it, or will never have it. */
  over(): void {
    this.#isOver = true
    for (const arrival of this.#arrivals.values()) arrival.complete()
  }

  #arrivalOf({ digest }: Descriptor): Arrival {
    let arrival = this.#arrivals.get(digest)
    if (arrival === undefined) {
      arrival = new Arrival(digest)
      this.#arrivals.set(digest, arrival)
      if (this.#isOver) arrival.complete()
    }
    return arrival
  }

  async #exists(descriptor: Descriptor, options: ContentOptions | undefined): Promise<boolean> {
    const exists = await this.#store.exists(descriptor, options)
    if (exists) this.#arrivalOf(descriptor).complete()
    return exists
  }

  async #push(
    descriptor: Descriptor,
    content: Readable | Uint8Array,
    options: ContentOptions | undefined,
  ): Promise<void> {
    await this.#store.push(descriptor, content, options)
    this.#arrivalOf(descriptor).complete()
  }

  async #receive(
    descriptor: Descriptor,
    from: (offset: number) => Promise<Readable>,
    options: ReceiveOptions | undefined,
  ): Promise<void> {
    const arrival = this.#arrivalOf(descriptor)
    const onWritten = (path: string, bytes: number): void => arrival.written(path, bytes)
    await this.#store.receive(descriptor, from, { ...options, onWritten })
    arrival.complete()
  }

  async *#read(descriptor: Descriptor, signal: AbortSignal | undefined): AsyncGenerator<Buffer, void, undefined> {
    const arrival = this.#arrivalOf(descriptor)
    const attempt = arrival.attempt
    const beyond = (position: number): Promise<number> => arrival.beyond(position, attempt, signal)
    await beyond(0)
    const file = await arrival.open()
    if (file === undefined) {
      await beyond(Number.POSITIVE_INFINITY)
      yield* ownPieces(await this.#store.fetch(descriptor, { signal }))
      return
    }
    try {
      for (let position = 0; position < descriptor.size; ) {
        const size = Math.min(chunkSize, descriptor.size - position, (await beyond(position)) - position)
        const { buffer, bytesRead } = await file.read(Buffer.allocUnsafeSlow(size), 0, size, position)
        if (bytesRead === 0) break
        position += bytesRead
        yield buffer.subarray(0, bytesRead)
      }
      await beyond(Number.POSITIVE_INFINITY)
    } finally {
      await file.close()
    }
  }
}

/** What a stream gives, as pieces that nobody else has. */
async function* ownPieces(stream: Readable): AsyncGenerator<Buffer, void, undefined> {
  for await (const piece of stream as AsyncIterable<Buffer>) yield hasOwnPieces(stream) ? piece : Buffer.from(piece)
}

/** How far one content is. */
class Arrival {
  readonly #digest: Digest
  #path: string | undefined
  #bytes = 0
  #isComplete = false
  /** Counts how often it has begun anew. */
  attempt = 0
  #waiting: (() => void)[] = []

  constructor(digest: Digest) {
    this.#digest = digest
  }

  /** `bytes` of it are in the file `path`. */
  written(path: string, bytes: number): void {
    if (bytes < this.#bytes) this.attempt += 1
    this.#path = path
    this.#bytes = bytes
    this.#wake()
  }

  /** It is in the store, verified, or will not come. */
  complete(): void {
    this.#isComplete = true
    this.#wake()
  }

  /** The file that it is collected in; undefined when it is not there any more, or never was. */
  async open(): Promise<FileHandle | undefined> {
    if (this.#path === undefined) return undefined
    try {
      return await open(this.#path)
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined
      throw error
    }
  }

  /**
   * Waits until there are more than `position` bytes, or all. @returns how many there are; Infinity for all.
   * @throws ConflictError when it is fetched anew since `attempt`. @throws `signal.reason`
   */
  async beyond(position: number, attempt: number, signal: AbortSignal | undefined): Promise<number> {
    while (this.attempt === attempt && !this.#isComplete && this.#bytes <= position) {
      await untilAborted(new Promise<void>((resolve) => this.#waiting.push(resolve)), signal)
    }
    if (this.attempt !== attempt) {
      throw new ConflictError(this.#digest, 'what had arrived of it was not what its digest says; it is fetched anew')
    }
    return this.#isComplete ? Number.POSITIVE_INFINITY : this.#bytes
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve()
  }
}
