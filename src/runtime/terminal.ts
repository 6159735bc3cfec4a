import { closeSync } from 'node:fs'
import { Duplex } from 'node:stream'
import { ReadStream } from 'node:tty'
import { ConflictError, InvalidArgumentError } from '../errors.ts'
import { out } from '../linux/call.ts'
import { F_SETFL, fcntl, O, read, write } from '../linux/calls/files.ts'
import { openTerminalPeer, setTerminalSize } from '../linux/calls/terminals.ts'
import { perform, performFor } from '../linux/local.ts'

/** What ends the input of a program that reads a terminal line by line (VEOF, termios(3)). */
const endOfFile = '\x04'

/** Bytes that are moved at a time: what a terminal holds. */
const portion = 4096

/** How long to wait when a program does not read what is typed, in milliseconds. */
const longestPause = 50

/**
 * The outer side of a terminal: what is written to it is typed, what is read from it is what the program shows.
 * It ends with the program, and with all others that have the terminal open. `end()` types Ctrl-D.
 */
export class Terminal extends Duplex {
  private readonly fd: number
  /**
   * The inner side, held until the program has ended: a terminal that nobody has open would be closed by libuv
   * before all of it is read (uv__stream_io takes POLLHUP for the end).
   */
  private inner: number | undefined
  private readonly source: ReadStream

  /** Takes over `fd`. @internal */
  constructor(fd: number) {
    super({ allowHalfOpen: false })
    const why = { step: 'take the terminal' }
    this.fd = fd
    this.inner = perform(openTerminalPeer(fd, why))
    perform(fcntl(fd, F_SETFL, O.NONBLOCK, why))
    // Polled in the event loop as a socket is; it blocks no thread.
    this.source = new ReadStream(fd)
    this.source.on('data', (bytes: Buffer) => {
      if (!this.push(bytes)) this.source.pause()
    })
    // EIO: nobody has the other side open any more. That is the end of a terminal.
    this.source.on('error', () => {})
    this.source.once('close', () => this.push(null))
    this.source.pause()
  }

  /**
   * Tells the program the size of the screen, in characters.
   * @throws InvalidArgumentError for what is no size. @throws ConflictError when the terminal is closed.
   */
  resize(columns: number, rows: number): void {
    for (const size of [columns, rows]) {
      if (!Number.isInteger(size) || size < 0 || size > 0xffff) {
        throw new InvalidArgumentError(`a terminal has 0 to 65535 columns and rows, not ${size}`, { subject: 'resize' })
      }
    }
    if (this.source.destroyed) throw new ConflictError('terminal', 'the terminal is closed')
    perform(setTerminalSize(this.fd, columns, rows, { step: 'resize the terminal' }))
  }

  /** The program has ended: what it has shown last is read, whoever is slow to take it. @internal */
  finish(): void {
    if (this.inner === undefined) return
    while (!this.source.destroyed) {
      const bytes = out(portion)
      const result = performFor(read(this.fd, bytes, { tolerate: 'any' }))
      if (result.value <= 0) break
      this.push(Buffer.from(result.bytes(bytes).subarray(0, result.value)))
    }
    this.closeInner()
    this.source.resume()
  }

  /** @internal */
  override _read(): void {
    this.source.resume()
  }

  /** @internal */
  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.type(chunk, 1, () => callback())
  }

  /** @internal */
  override _final(callback: (error?: Error | null) => void): void {
    this.type(Buffer.from(endOfFile), 1, () => callback())
  }

  /** @internal */
  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.source.destroy()
    this.closeInner()
    callback(error)
  }

  /** Writes by itself: libuv would block on a terminal whose program does not read. */
  private type(bytes: Buffer, pause: number, done: () => void): void {
    let rest = bytes
    while (rest.length > 0 && !this.source.destroyed) {
      const written = perform(write(this.fd, rest.subarray(0, portion), { tolerate: 'any' }))
      if (written <= 0) break
      rest = rest.subarray(written)
    }
    // Who has ended reads nothing; that is no error of ours.
    if (rest.length === 0 || this.source.destroyed || this.inner === undefined) {
      done()
    } else {
      const next = rest.length < bytes.length ? 1 : Math.min(pause * 2, longestPause)
      setTimeout(() => this.type(rest, next, done), pause)
    }
  }

  private closeInner(): void {
    if (this.inner !== undefined) closeSync(this.inner)
    this.inner = undefined
  }
}
