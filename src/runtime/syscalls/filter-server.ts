import { closeSync } from 'node:fs'
import { ConflictError } from '../../errors.ts'
import { Remote, socketPair } from '../../linux/remote/remote.ts'
import { peekListener } from './answerer.ts'

const socketThere = 10

/** Has the listener of one filter, by which it hands over the calls of a process and of all that come of it. */
export abstract class FilterServer {
  /** Resolves when nobody has the filter any more, or this is closed. */
  readonly ended: Promise<void>
  /** The process that takes the calls. */
  protected readonly receiver: Remote
  /** The socket that the listener lies in. */
  protected readonly socket: number
  private readonly id: string
  private there: number | undefined
  private skipped = 0
  private closing: Promise<void> | undefined

  /** @param id of the container, for errors */
  constructor(id: string) {
    this.id = id
    const pair = socketPair()
    this.socket = pair.here
    this.there = pair.there
    try {
      this.receiver = Remote.spawn({ descriptors: new Map([[socketThere, pair.here]]) })
    } catch (error) {
      closeSync(pair.here)
      closeSync(pair.there)
      throw error
    }
    this.ended = this.serve()
  }

  /** Takes calls by way of `receiver` until nobody is left who could make one. */
  protected abstract receive(listener: number): Promise<void>

  /** Ends what the class itself has begun. */
  protected async closed(): Promise<void> {}

  /** Hands over the socket by which the listener is sent; whoever takes it closes it. */
  takeSocket(): number {
    const { there } = this
    if (there === undefined) throw new ConflictError(this.id, 'the socket of the listener was taken before')
    this.there = undefined
    return there
  }

  /** The first `count` calls are not the program's: they are let through. */
  skip(count: number): void {
    this.skipped = count
  }

  /** Ends it: calls that wait, and those that come, fail with ENOSYS. Idempotent. */
  close(): Promise<void> {
    this.closing ??= this.end()
    return this.closing
  }

  protected get isClosing(): boolean {
    return this.closing !== undefined
  }

  /** Whether the call that has come is not the program's. */
  protected passesOver(): boolean {
    if (this.skipped === 0) return false
    this.skipped--
    return true
  }

  private async end(): Promise<void> {
    try {
      await Promise.all([this.receiver.close().catch(() => {}), this.closed()])
    } finally {
      closeSync(this.socket)
      if (this.there !== undefined) closeSync(this.takeSocket())
    }
  }

  private async serve(): Promise<void> {
    try {
      const listener = await peekListener(this.receiver, socketThere)
      if (listener !== undefined) await this.receive(listener)
    } catch {
      // It was closed, or killed: then the kernel tells the callers that nobody is there.
    }
    await this.close()
  }
}
