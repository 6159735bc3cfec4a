import { Readable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'

/** Which of its two outputs a container wrote to. */
export type OutputName = 'stdout' | 'stderr'

/** A line that a container wrote. */
export interface LogLine {
  readonly stream: OutputName
  /** Without its line end. Bytes that are not UTF-8 are replaced; very long lines come in parts. */
  readonly text: string
  /** When its end arrived. */
  readonly time: Date
}

/** Options of `logs`. */
export interface LogOptions {
  /** Whether to wait for more until the container ends. Default false: what there is now. */
  readonly follow?: boolean
  /** Only the last so many lines that there are at the call. Default all. */
  readonly tail?: number
  /** Aborting ends the iteration with `signal.reason`. */
  readonly signal?: AbortSignal
}

interface Chunk {
  readonly stream: OutputName
  readonly bytes: Buffer
  readonly time: Date
}

/** Longest line that is given in one piece, in bytes. */
const maxLine = 64 * 1024

/**
 * What a container wrote, from its birth on. The latest bytes are kept in memory up to a limit, for
 * `logs`; streams that are opened get everything from then on, with back pressure up to the container.
 */
export class Output {
  private readonly limit: number
  private chunks: Chunk[] = []
  /** Number of chunks that were dropped: the sequence number of the first one kept. */
  private dropped = 0
  private size = 0
  private open: number
  private wake: (() => void)[] = []
  private readonly streams = new Map<OutputName, OutputStream>()
  private readonly sources: ReadonlyMap<OutputName, Readable>

  /** Reads `sources` until they end; `limit` is in bytes. */
  constructor(sources: ReadonlyMap<OutputName, Readable>, limit: number) {
    this.limit = limit
    this.sources = sources
    this.open = sources.size
    for (const [stream, source] of sources) {
      source.on('data', (bytes: Buffer) => this.add(stream, bytes))
      // A pipe that breaks has ended.
      source.on('error', () => {})
      source.once('close', () => this.end(stream))
    }
  }

  /** The bytes of one output, from the first that is kept. */
  stream(name: OutputName): Readable {
    let stream = this.streams.get(name)
    if (stream === undefined) {
      const source = this.sources.get(name)
      stream = new OutputStream(source)
      for (const chunk of this.chunks) if (chunk.stream === name) stream.push(chunk.bytes)
      if (source === undefined || source.closed) stream.push(null)
      this.streams.set(name, stream)
    }
    return stream
  }

  /** The lines of both outputs in the order in which they arrived. */
  async *lines(options: LogOptions = {}): AsyncGenerator<LogLine, void, undefined> {
    const { follow = false, tail, signal } = options
    const splitters = { stdout: new LineSplitter('stdout'), stderr: new LineSplitter('stderr') }
    const kept: LogLine[] = []
    let next = this.dropped
    const last = this.dropped + this.chunks.length
    while (next < last) for (const line of this.split(next++, splitters)) kept.push(line)
    if (!follow || this.open === 0) kept.push(...splitters.stdout.rest(), ...splitters.stderr.rest())
    yield* tail === undefined ? kept : kept.slice(Math.max(0, kept.length - tail))
    if (!follow) return
    const wasOpen = this.open > 0
    while (this.open > 0 || next < this.dropped + this.chunks.length) {
      next = Math.max(next, this.dropped)
      if (next < this.dropped + this.chunks.length) yield* this.split(next++, splitters)
      else await this.more(signal)
    }
    if (wasOpen) yield* [...splitters.stdout.rest(), ...splitters.stderr.rest()]
  }

  /** The last lines, at most `count`. */
  async tail(count: number): Promise<readonly string[]> {
    const lines: string[] = []
    for await (const line of this.lines({ tail: count })) lines.push(line.text)
    return lines
  }

  /** Resolves when both outputs have ended. */
  async ended(): Promise<void> {
    while (this.open > 0) await this.more(undefined)
  }

  /** Stops reading: what a process of the container still writes is lost. */
  close(): void {
    for (const source of this.sources.values()) source.destroy()
  }

  private split(sequence: number, splitters: Readonly<Record<OutputName, LineSplitter>>): readonly LogLine[] {
    const chunk = this.chunks[sequence - this.dropped]
    return chunk === undefined ? [] : splitters[chunk.stream].add(chunk)
  }

  private add(stream: OutputName, bytes: Buffer): void {
    this.chunks.push({ stream, bytes, time: new Date() })
    this.size += bytes.length
    while (this.size > this.limit && this.chunks.length > 1) {
      this.size -= this.chunks.shift()?.bytes.length ?? 0
      this.dropped++
    }
    this.streams.get(stream)?.deliver(bytes)
    this.notify()
  }

  private end(stream: OutputName): void {
    this.open--
    this.streams.get(stream)?.push(null)
    this.notify()
  }

  private notify(): void {
    for (const wake of this.wake.splice(0)) wake()
  }

  private more(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted()
      const onAbort = (): void => reject(signal?.reason)
      signal?.addEventListener('abort', onAbort, { once: true })
      this.wake.push(() => {
        signal?.removeEventListener('abort', onAbort)
        resolve()
      })
    })
  }
}

/** One output as a stream: while its reader is behind, the pipe is not read, and the container waits. */
class OutputStream extends Readable {
  private readonly source: Readable | undefined

  constructor(source: Readable | undefined) {
    super()
    this.source = source
  }

  deliver(bytes: Buffer): void {
    if (!this.push(bytes)) this.source?.pause()
  }

  override _read(): void {
    this.source?.resume()
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.source?.resume()
    callback(error)
  }
}

/** Makes lines of the chunks of one output. */
class LineSplitter {
  private readonly stream: OutputName
  private readonly decoder = new StringDecoder('utf8')
  private partial = ''
  private time = new Date()

  constructor(stream: OutputName) {
    this.stream = stream
  }

  add(chunk: Chunk): readonly LogLine[] {
    this.time = chunk.time
    const parts = (this.partial + this.decoder.write(chunk.bytes)).split('\n')
    this.partial = parts.pop() ?? ''
    if (this.partial.length > maxLine) {
      parts.push(this.partial)
      this.partial = ''
    }
    return parts.map((text) => this.line(text))
  }

  /** What came after the last line end. */
  rest(): readonly LogLine[] {
    const text = this.partial + this.decoder.end()
    this.partial = ''
    return text === '' ? [] : [this.line(text)]
  }

  private line(text: string): LogLine {
    return { stream: this.stream, text: text.endsWith('\r') ? text.slice(0, -1) : text, time: this.time }
  }
}
