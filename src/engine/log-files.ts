import { closeSync, constants, fchownSync, openSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { NotFoundError } from '../errors.ts'
import { delay } from '../internal/abort.ts'
import { hasCode } from '../internal/file-error.ts'
import { quote } from '../internal/text.ts'
import { type Chunk, type LogLine, newSplitters, type OutputName, restOf } from './line-splitter.ts'
import { checkTail, type LogOptions } from './output.ts'
import type { Log } from './runner.ts'

const names: readonly OutputName[] = ['stdout', 'stderr']

/** Bytes that are read at once. */
const chunkSize = 64 * 1024

/** Pauses between two looks at a file that has nothing new, in milliseconds. */
const shortestPause = 5
const longestPause = 100

/** The files that a detached container writes to, opened for it. */
export interface LogDescriptors {
  readonly stdout: number
  readonly stderr: number
  /** Closes them here. Idempotent. */
  close(): void
}

/**
 * Makes the files for what a container writes.
 * @param owner Host uid that the container runs as: it may then open /dev/stdout by name.
 */
export function createLogFiles(directory: string, owner: number): LogDescriptors {
  const opened: number[] = []
  const close = (): void => {
    for (const fd of opened.splice(0)) closeSync(fd)
  }
  const create = (name: OutputName): number => {
    const fd = openSync(pathOf(directory, name), flags, 0o600)
    opened.push(fd)
    // Only root can give files away.
    if (process.geteuid?.() === 0) fchownSync(fd, owner, keepGroup)
    return fd
  }
  try {
    return { stdout: create('stdout'), stderr: create('stderr'), close }
  } catch (error) {
    close()
    throw error
  }
}

/** Appending: all that write to it, its children for one, write behind one another. */
const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_APPEND

/** The gid that leaves the group as it is (chown(2): -1). */
const keepGroup = 2 ** 32 - 1

/**
 * What a detached container wrote, read from its files: from its birth on, in any process. The files do not
 * tell which output was written to first; what comes while one follows comes in its order, but for a tenth of a
 * second. Reading fails with NotFoundError when the container has been removed before it began.
 */
export class LogFiles implements Log {
  private readonly directory: string
  private readonly subject: string
  private readonly isRunning: () => Promise<boolean>
  private readonly streams = new Map<OutputName, Readable>()

  /** @param isRunning Whether more may be written. */
  constructor(directory: string, subject: string, isRunning: () => Promise<boolean>) {
    this.directory = directory
    this.subject = subject
    this.isRunning = isRunning
  }

  stream(name: OutputName): Readable {
    let stream = this.streams.get(name)
    if (stream === undefined) {
      stream = Readable.from(this.bytes(name), { objectMode: false })
      this.streams.set(name, stream)
    }
    return stream
  }

  lines(options: LogOptions = {}): AsyncGenerator<LogLine, void, undefined> {
    checkTail(options)
    return this.read(options)
  }

  async tail(count: number): Promise<readonly string[]> {
    const lines: string[] = []
    for await (const line of this.lines({ tail: count })) lines.push(line.text)
    return lines
  }

  private async *bytes(name: OutputName): AsyncGenerator<Buffer, void, undefined> {
    for await (const round of this.rounds([name], { follow: true })) {
      for await (const { bytes } of round.chunks) yield bytes
    }
  }

  private async *read(options: LogOptions): AsyncGenerator<LogLine, void, undefined> {
    const { signal } = options
    let { tail } = options
    const splitters = newSplitters()
    for await (const { chunks, isLast } of this.rounds(names, options)) {
      const kept: LogLine[] = []
      for await (const chunk of chunks) {
        signal?.throwIfAborted()
        const lines = splitters[chunk.stream].add(chunk)
        if (tail === undefined) yield* lines
        else {
          kept.push(...lines)
          // There may be millions of lines.
          if (kept.length > tail) kept.splice(0, kept.length - tail)
        }
      }
      if (isLast) kept.push(...restOf(splitters))
      yield* kept.slice(tail === undefined ? 0 : Math.max(0, kept.length - tail))
      tail = undefined
    }
  }

  /** Reads what there is, again and again when it is to follow, until nothing can come any more. */
  private async *rounds(which: readonly OutputName[], { follow, signal }: LogOptions): AsyncGenerator<Round> {
    signal?.throwIfAborted()
    const files = await this.open(which)
    try {
      for (let pause = shortestPause; ; ) {
        signal?.throwIfAborted()
        // Asked before it is read, so that what was written before the end is read.
        const isLast = follow !== true || !(await this.isRunning())
        const before = position(files)
        yield { chunks: chunksOf(files), isLast }
        if (isLast) return
        pause = position(files) === before ? Math.min(pause * 2, longestPause) : shortestPause
        await delay(pause, signal)
      }
    } finally {
      await Promise.all(files.map(({ handle }) => handle.close()))
    }
  }

  /** The output that was written to last comes last: it is where the latest lines are. */
  private async open(which: readonly OutputName[]): Promise<readonly LogFile[]> {
    const files: LogFile[] = []
    try {
      for (const name of which) files.push(new LogFile(name, await open(pathOf(this.directory, name))))
      const times = await Promise.all(files.map(async (file) => (await file.handle.stat()).mtimeMs))
      return (times[0] ?? 0) > (times[1] ?? Number.POSITIVE_INFINITY) ? files.reverse() : files
    } catch (cause) {
      await Promise.all(files.map(({ handle }) => handle.close()))
      if (!hasCode(cause, 'ENOENT')) throw cause
      const message = `the log of container ${quote(this.subject)} does not exist: it has been removed`
      throw new NotFoundError(this.subject, message, { cause })
    }
  }
}

interface Round {
  readonly chunks: AsyncIterable<Chunk>
  readonly isLast: boolean
}

/** One file and how far it has been read. */
class LogFile {
  readonly name: OutputName
  readonly handle: FileHandle
  position = 0

  constructor(name: OutputName, handle: FileHandle) {
    this.name = name
    this.handle = handle
  }

  /** From where the last reader stopped to where it ends now: it may grow faster than it is read. */
  async *chunks(): AsyncGenerator<Chunk, void, undefined> {
    const { size, mtime: time } = await this.handle.stat()
    // The container may have cut it, by opening /dev/stdout as a file to be written anew.
    if (size < this.position) this.position = 0
    while (this.position < size) {
      const buffer = Buffer.alloc(Math.min(chunkSize, size - this.position))
      const { bytesRead } = await this.handle.read(buffer, 0, buffer.length, this.position)
      if (bytesRead === 0) return
      this.position += bytesRead
      yield { stream: this.name, bytes: buffer.subarray(0, bytesRead), time }
    }
  }
}

async function* chunksOf(files: readonly LogFile[]): AsyncGenerator<Chunk, void, undefined> {
  for (const file of files) yield* file.chunks()
}

function position(files: readonly LogFile[]): number {
  return files.reduce((sum, file) => sum + file.position, 0)
}

function pathOf(directory: string, name: OutputName): string {
  return join(directory, `${name}.log`)
}
