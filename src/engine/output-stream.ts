import { Readable } from 'node:stream'

/** What an {@link OutputStream} asks of the pipe that it is fed from. */
export interface Flow {
  pause(): void
  resume(): void
}

/** One output as a stream: while its reader is behind, the pipe is not read, and the container waits. */
export class OutputStream extends Readable {
  private readonly flow: Flow

  constructor(flow: Flow) {
    super()
    this.flow = flow
  }

  /** Hands over what came out of the pipe. */
  deliver(bytes: Buffer): void {
    if (!this.destroyed && !this.push(bytes)) this.flow.pause()
  }

  /** The pipe has ended. */
  finish(): void {
    if (!this.destroyed) this.push(null)
  }

  override _read(): void {
    this.flow.resume()
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    // Nobody is behind any more; the log goes on.
    this.flow.resume()
    callback(error)
  }
}
