import { writeSync } from 'node:fs'
import { Socket } from 'node:net'
import { InvalidArgumentError, RemoteExitError } from '../../errors.ts'
import type { Architecture } from '../architecture.ts'
import type { Call } from '../call.ts'
import { encode, silence, type Target } from '../encode.ts'
import type { CallRunner, Results } from '../runner.ts'
import { type Batch, isNotice, noticeSize, settle } from './answer.ts'
import { handOver } from './hand-over.ts'
import { isDrained } from './is-drained.ts'
import { headerSize, messageAddress, messageCapacity } from './memory.ts'
import { RepeatedBatch } from './repeated.ts'

export type { Results } from '../runner.ts'

/** How a channel treats its process. */
export interface ChannelOptions {
  readonly architecture: Architecture
  /** Whether the process goes on when this one is gone. Default false. */
  readonly outlive?: boolean | undefined
  /** Calls put before the first batch, in the same message. */
  readonly prelude?: readonly Call[] | undefined
  /** What is put in place of each {@link blank} in strings of the calls. Default: it stays. */
  readonly text?: string | undefined
  /** Bytes that the process sends first: the answer to a batch that somebody else has handed over. Default none. */
  readonly greeting?: number | undefined
}

/** How a batch is made. */
export interface RunOptions {
  /** Whether this process may end without the answer. Default false. */
  readonly background?: boolean | undefined
  /** Whether the same array of calls is made often, and so is to be encoded once. It must not change. Default false. */
  readonly again?: boolean | undefined
  /** What is done when the process has made the {@link sendNotice} of the batch. */
  readonly notice?: (() => void) | undefined
}

/** How a batch is made that nobody asks about. */
export interface PostOptions extends Pick<RunOptions, 'again'> {
  /** Whether a process that may outlive this one sends no answer either. Default false. */
  readonly silent?: boolean | undefined
}

const nothing: readonly Call[] = []

// One for all channels: a message is encoded and handed to the kernel in one go.
let scratch: Buffer | undefined

// One for all that is read: a stream makes 64 KiB of memory for each answer.
let inbox: Buffer | undefined
const inboxSize = 1 << 18

/** This end of the socket on which a remote process takes batches. */
export class Channel implements CallRunner {
  /** Bytes that one batch may take, arguments included. */
  static readonly capacity: number = messageCapacity

  /**
   * Resolves when the other end is closed: the process ended, or it is another program now. A copy of that end
   * which someone else still holds, such as the parent of a child, keeps it open.
   */
  readonly closed: Promise<void>
  private readonly fd: number
  private readonly socket: Socket
  private readonly options: ChannelOptions
  private text: string | undefined
  private attached: readonly number[] | undefined
  private readonly waiting: Batch[] = []
  private received: Buffer[] = []
  private receivedSize = 0
  private started = false
  private isLeft = false

  /** Takes over `fd`, a stream socket. */
  constructor(fd: number, options: ChannelOptions) {
    this.fd = fd
    this.options = options
    this.text = options.text
    inbox ??= Buffer.allocUnsafeSlow(inboxSize)
    const onread = { buffer: inbox, callback: (size: number) => this.receive(size) }
    this.socket = new Socket({ fd, readable: true, writable: true, onread })
    this.socket.unref()
    if (options.greeting !== undefined) {
      const layout = { replySize: options.greeting, outs: new Map() }
      this.waiting.push({ calls: [], layout, holds: false })
    }
    // The end is told by 'close'; what broke a stream between two local processes is that one of them died.
    this.socket.on('error', () => {})
    // Nobody is there to be told that this end closes, too: whoever waits for the end hears of it at once.
    this.socket.once('end', () => {
      this.socket.destroy()
      this.abandon()
    })
    this.closed = new Promise((resolve) => {
      this.socket.once('close', () => {
        this.abandon()
        resolve()
      })
    })
  }

  /** Whether a batch may still be handed over. */
  get isOpen(): boolean {
    return !this.socket.destroyed && !this.isLeft
  }

  /**
   * Makes `calls` in the remote process, in order, in one round trip. It stops at the first call that
   * fails with an errno which the call does not tolerate.
   * @throws SyscallError for that call. @throws RemoteExitError when the process ends before it has answered.
   * @throws LimitError for more than {@link Channel.capacity} bytes; InvalidArgumentError for what can't be encoded.
   */
  run(calls: readonly Call[], options: RunOptions = {}): Promise<Results> {
    return new Promise((resolve, reject) => {
      if (!this.isOpen) throw new RemoteExitError('the remote process has ended')
      if (calls.length === 0) throw new InvalidArgumentError('a batch must have at least one call')
      const holds = options.background !== true
      const { notice } = options
      this.write(calls, options.again === true, false, (all, layout) => {
        this.waiting.push({ calls: all, layout, holds, resolve, reject, notice })
      })
      this.started = true
      if (holds) this.socket.ref() // an answer is on its way
    })
  }

  /** Has `calls` made as {@link run} does, when the process has not ended; nobody asks how that went. */
  post(calls: readonly Call[], { again = false, silent = false }: PostOptions = {}): void {
    if (!this.isOpen) return
    // Any other process would take it for the end of this one that its answer goes nowhere.
    const isSilent = silent && this.options.outlive === true
    this.write(calls, again, isSilent, (all, layout) => {
      if (!isSilent) this.waiting.push({ calls: all, layout, holds: false })
    })
    this.started = true
  }

  /**
   * As {@link run}, for calls by which the process becomes another program. Resolves with undefined when the other end
   * is closed: it is that program, or has ended.
   */
  async become(calls: readonly Call[], options: RunOptions = {}): Promise<Results | undefined> {
    if (!this.isOpen) return undefined
    const before = this.waiting.length
    const results = this.run(calls, options)
    const batch = this.waiting[before]
    if (batch === undefined) return results // they could not be encoded
    const ended = new Promise<undefined>((resolve) => {
      batch.ended = () => resolve(undefined)
    })
    return Promise.race([results, ended])
  }

  /**
   * Hands descriptors to a process whose last batch waits for them, together with the next batch: they have to be open
   * until then. @param text see `text` of ChannelOptions; for the batches that follow.
   */
  attach(descriptors: readonly number[], text: string): void {
    this.attached = descriptors
    this.text = text
  }

  /** From now on the answer that comes next keeps this process alive, also when its batch was one in the background. */
  hold(): void {
    const batch = this.waiting[0]
    if (batch === undefined) return
    batch.holds = true
    this.socket.ref()
  }

  /**
   * To be called when the process has ended or is another program, by whoever knows: the socket does not tell where the maker
   * of the next process has a copy of the other end. What waits ends as if it were closed.
   */
  leave(): void {
    this.isLeft = true
    this.socket.unref()
    // What the kernel has no room for would wait for ever, and keep this process alive.
    if (this.socket.writableLength > 0) this.socket.destroy()
    this.abandon()
  }

  /**
   * Takes the next process at the other end for its own, unless it was not told to {@link leave} the last one or something
   * of that is still under way, in either direction. @param text see `text` of ChannelOptions
   * @returns whether it has. Otherwise it is to be closed.
   */
  welcome(text: string): boolean {
    // One that was left is given no batches. What the last process has not read, the next one would do.
    if (!this.isLeft || this.receivedSize > 0 || this.socket.destroyed || !isDrained(this.fd)) return false
    this.isLeft = false
    this.text = text
    return true
  }

  /** Takes no more batches: the process sees that (POLLRDHUP), and ends when it has answered those that it has. */
  hangUp(): void {
    this.socket.end()
  }

  /** Closes this end; the process ends when it next looks for a batch. */
  close(): Promise<void> {
    this.socket.destroy()
    return this.closed
  }

  private write(
    calls: readonly Call[],
    again: boolean,
    silent: boolean,
    encoded: (all: readonly Call[], layout: Batch['layout']) => void,
  ): void {
    const memory = scratch ?? Buffer.allocUnsafeSlow(headerSize + messageCapacity)
    scratch = undefined
    const { architecture, outlive, prelude = nothing } = this.options
    const { text } = this
    const before = this.started ? nothing : prelude
    const target: Target = { architecture, address: messageAddress, outlive: outlive === true, text }
    let size: number
    try {
      if (again) {
        const batch = RepeatedBatch.of(calls, before, memory, target)
        size = batch.write(memory, text)
        encoded(batch.calls, batch.layout)
      } else {
        const all = before.length === 0 ? calls : [...before, ...calls]
        const layout = encode(all, memory, target)
        size = layout.size
        encoded(all, layout)
      }
    } catch (error) {
      scratch = memory
      throw error
    }
    if (silent) silence(memory)
    const written = this.sendAttached(memory, size) ?? this.writeNow(memory, size)
    if (written === size) {
      scratch = memory
      return
    }
    let returned = false
    const giveBack = (): void => {
      // Once: another batch may be on its way from that memory by the time of the second.
      if (!returned) scratch = memory
      returned = true
    }
    this.socket.write(memory.subarray(written, size), giveBack)
    // What the kernel does not take at once is still to be read from that memory.
    if (this.socket.writableLength === 0) giveBack()
  }

  /** @returns how many bytes of the message went with the descriptors; undefined when there were none. */
  private sendAttached(memory: Buffer, size: number): number | undefined {
    const { attached } = this
    if (attached === undefined) return undefined
    this.attached = undefined
    const sent = handOver(this.fd, attached, memory.subarray(0, size))
    // Without them it can't go on; that it has ended is the rule.
    if (sent === undefined) this.socket.destroy()
    return sent ?? 0
  }

  /** Past the stream, which takes as long as the kernel does. @returns how many bytes the kernel has taken. */
  private writeNow(memory: Buffer, size: number): number {
    if (this.socket.writableLength > 0) return 0
    try {
      return writeSync(this.fd, memory, 0, size)
    } catch {
      // The kernel has no room, or the other end is closed: the stream waits for the one and tells of the other.
      return 0
    }
  }

  /** @returns whether to go on. */
  private receive(size: number): boolean {
    // Copied: the memory is the next reader's.
    this.received.push(Buffer.from((inbox as Buffer).subarray(0, size)))
    this.receivedSize += size
    while (this.receivedSize > 0) {
      const batch = this.waiting[0]
      // Nobody asked for that: the other end is no longer our program.
      if (batch === undefined) {
        this.socket.destroy()
        return false
      }
      if (batch.notice !== undefined && this.takeNotice()) {
        const { notice } = batch
        batch.notice = undefined
        notice()
        continue
      }
      if (this.receivedSize < batch.layout.replySize) return true
      const reply = this.take(batch.layout.replySize)
      this.waiting.shift()
      if (!this.waiting.some((each) => each.holds)) this.socket.unref()
      if (!this.settle(batch, reply)) this.socket.destroy()
    }
    return true
  }

  private takeNotice(): boolean {
    if (this.receivedSize < noticeSize) return false
    const start = this.take(noticeSize)
    if (isNotice(start)) return true
    this.received.unshift(start)
    this.receivedSize += noticeSize
    return false
  }

  /** The next `size` bytes, of those that have come. */
  private take(size: number): Buffer {
    const all = this.received.length === 1 ? (this.received[0] as Buffer) : Buffer.concat(this.received)
    const rest = all.subarray(size)
    this.received = rest.length === 0 ? [] : [rest]
    this.receivedSize = rest.length
    return all.subarray(0, size)
  }

  private settle(batch: Batch, reply: Buffer): boolean {
    try {
      return settle(batch, reply, this.text)
    } catch (error) {
      // Calls of a config that nobody has validated may have anything for a name: here nobody else would hear of it.
      batch.reject?.(error)
      return false
    }
  }

  private abandon(): void {
    for (const batch of this.waiting.splice(0)) {
      if (batch.ended !== undefined) batch.ended()
      else batch.reject?.(new RemoteExitError('the remote process ended before it had answered'))
    }
  }
}
