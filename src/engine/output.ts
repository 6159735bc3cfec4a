import type { Readable } from 'node:stream'
import { InvalidArgumentError } from '../errors.ts'
import { delay, onAbort } from '../internal/abort.ts'
import { type Chunk, type LogLine, newSplitters, type OutputName, restOf, type Splitters } from './line-splitter.ts'
import { OutputStream } from './output-stream.ts'
import type { Log } from './runner.ts'

/** Options of `logs`. */
export interface LogOptions {
  /** Whether to wait for more until the container ends. Default false: what there is now. */
  readonly follow?: boolean | undefined
  /** Only the last so many lines that there are at the call. Default all. */
  readonly tail?: number | undefined
  /** Aborting ends the iteration with `signal.reason`. */
  readonly signal?: AbortSignal | undefined
}

/** Bytes that a chunk takes beside its content, about: many small ones must not fill memory. */
const chunkOverhead = 256

/** How long the pipes may stay open after the container's end, where others hold them. Milliseconds. */
const patience = 1000

/**
 * What a container wrote, from its birth on. The latest bytes are kept in memory up to a limit, for
 * `logs`; streams that are opened get everything from then on, with back pressure up to the container.
 */
export class Output implements Log {
  private readonly limit: number
  private readonly chunks: Chunk[] = []
  /** Number of chunks that were dropped: the sequence number of the first one kept. */
  private dropped = 0
  private size = 0
  private open: number
  private started = false
  private draining = false
  private readonly waiting = new Set<() => void>()
  private readonly streams = new Map<OutputName, OutputStream>()
  private readonly sources: ReadonlyMap<OutputName, Readable>

  /** Reads `sources`, from {@link start} on, until they end; `limit` is in bytes. */
  constructor(sources: ReadonlyMap<OutputName, Readable>, limit: number) {
    this.limit = limit
    this.sources = sources
    this.open = sources.size
    for (const [name, source] of sources) {
      // A pipe that breaks has ended.
      source.on('error', () => {})
      source.once('close', () => this.end(name))
    }
  }

  /** Begins to read. Idempotent. */
  start(): void {
    if (this.started) return
    this.started = true
    for (const [name, source] of this.sources) source.on('data', (bytes: Buffer) => this.add(name, bytes))
  }

  /** The bytes of one output, from the first that is kept. Always the same stream. */
  stream(name: OutputName): Readable {
    let stream = this.streams.get(name)
    if (stream === undefined) {
      stream = this.openStream(name)
      this.streams.set(name, stream)
      for (const chunk of this.chunks) if (chunk.stream === name) stream.deliver(chunk.bytes)
      if (this.sources.get(name)?.closed !== false) stream.finish()
    }
    this.start()
    return stream
  }

  /**
   * The lines of both outputs in the order in which they arrived. A reader that is so slow that lines are
   * dropped before it comes to them misses those.
   * @throws InvalidArgumentError for a `tail` that is no number of lines.
   */
  lines(options: LogOptions = {}): AsyncGenerator<LogLine, void, undefined> {
    checkTail(options)
    return this.read(options)
  }

  /** The last lines, at most `count`. */
  async tail(count: number): Promise<readonly string[]> {
    const lines: string[] = []
    for await (const line of this.lines({ tail: count })) lines.push(line.text)
    return lines
  }

  /**
   * Reads what is still in the pipes when the container has ended, whoever is slow to take it: it is no more
   * than a pipe holds. Gives up after a second, for someone else may hold a pipe.
   */
  async finish(): Promise<void> {
    this.draining = true
    this.start()
    for (const source of this.sources.values()) source.resume()
    const late = new AbortController()
    await Promise.race([this.ended(), delay(patience, late.signal).catch(() => {})])
    late.abort()
  }

  private async ended(): Promise<void> {
    while (this.open > 0) await this.more(undefined)
  }

  private async *read({ follow = false, tail, signal }: LogOptions): AsyncGenerator<LogLine, void, undefined> {
    signal?.throwIfAborted()
    let splitters = newSplitters()
    let next = this.dropped
    const end = this.dropped + this.chunks.length
    if (tail !== undefined) {
      const last: LogLine[] = []
      while (next < end) {
        last.push(...this.split(next++, splitters))
        // There may be millions of lines.
        if (last.length > tail) last.splice(0, last.length - tail)
      }
      if (!follow || this.open === 0) last.push(...restOf(splitters))
      yield* last.slice(Math.max(0, last.length - tail))
    }
    for (;;) {
      signal?.throwIfAborted()
      if (next < this.dropped) {
        next = this.dropped
        splitters = newSplitters() // what follows the gap is no part of the line before it
      }
      if (next < (follow ? this.dropped + this.chunks.length : end)) yield* this.split(next++, splitters)
      else if (!follow || this.open === 0) break
      else await this.more(signal)
    }
    yield* restOf(splitters)
  }

  private split(sequence: number, splitters: Splitters): readonly LogLine[] {
    const chunk = this.chunks[sequence - this.dropped]
    return chunk === undefined ? [] : splitters[chunk.stream].add(chunk)
  }

  private openStream(name: OutputName): OutputStream {
    return new OutputStream({
      pause: () => {
        if (!this.draining) this.sources.get(name)?.pause()
      },
      // Whoever is asked before the start would throw away what it reads.
      resume: () => {
        if (this.started) this.sources.get(name)?.resume()
      },
    })
  }

  private add(stream: OutputName, bytes: Buffer): void {
    this.chunks.push({ stream, bytes, time: new Date() })
    this.size += bytes.length + chunkOverhead
    while (this.size > this.limit && this.chunks.length > 1) {
      this.size -= (this.chunks.shift()?.bytes.length ?? 0) + chunkOverhead
      this.dropped++
    }
    this.streams.get(stream)?.deliver(bytes)
    this.notify()
  }

  private end(name: OutputName): void {
    this.open--
    this.streams.get(name)?.finish()
    this.notify()
  }

  private notify(): void {
    const waiting = [...this.waiting]
    this.waiting.clear()
    for (const wake of waiting) wake()
  }

  /** Resolves at the next change. */
  private more(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted()
      const unlink = onAbort(signal, () => {
        this.waiting.delete(wake)
        reject(signal?.reason)
      })
      const wake = (): void => {
        unlink()
        resolve()
      }
      this.waiting.add(wake)
    })
  }
}

/** @throws InvalidArgumentError for a `tail` that is no number of lines. */
export function checkTail({ tail }: LogOptions): void {
  if (tail !== undefined && (!Number.isInteger(tail) || tail < 0)) {
    throw new InvalidArgumentError(`tail must be a number of lines, not ${tail}`, { subject: 'tail' })
  }
}
