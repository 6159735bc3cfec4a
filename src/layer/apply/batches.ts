import { LimitError } from '../../errors.ts'
import type { Arg, Call } from '../../linux/call.ts'
import type { CallRunner, Results } from '../../linux/runner.ts'
import { runWalk } from '../../linux/walk.ts'
import type { CallSink, Judge } from './planner.ts'
import { Staging, type StagingMemory } from './staging.ts'

/** What makes the batches: a remote process. */
export interface BatchRunner extends CallRunner {
  /** Bytes that one batch may take. */
  readonly capacity: number
  /** Memory through which it takes content; without it content goes with the calls. */
  readonly memory?: StagingMemory
}

interface Expectation {
  readonly call: Call
  readonly judge: Judge
}

/** Batches on their way at a time: one is made while the next ones are encoded and in the socket. */
const maxInFlight = 3
/** Bytes of a batch: large enough that the round trip does not show, small enough to start early, and to be encoded in a few milliseconds. */
const batchSize = 256 * 1024

/**
 * Gathers calls into batches and has them made in order. The first failure ends it: it is thrown by the next
 * {@link Batches.room} or {@link Batches.finish}, and no further batch is sent.
 */
export class Batches implements CallSink {
  readonly #runner: BatchRunner
  readonly #limit: number
  readonly #room: number
  readonly #staging: Staging | undefined
  readonly #walks: boolean
  #calls: Call[] = []
  #expectations: Expectation[] = []
  #size = 0
  readonly #inFlight: Promise<void>[] = []
  #failure: { readonly error: unknown } | undefined

  /**
   * @param options.walks Whether paths are walked that can be disturbed (`runWalk`). What is tried again must come before
   * all that follows it: then each batch waits for the one before. Default false.
   */
  constructor(runner: BatchRunner, options: { readonly walks?: boolean } = {}) {
    this.#runner = runner
    this.#walks = options.walks === true
    this.#limit = Math.min(batchSize, runner.capacity / 2)
    // A batch is sent when it is beyond the limit, and the calls that took it there must fit as well.
    this.#room = runner.capacity - this.#limit
    this.#staging = runner.memory === undefined ? undefined : new Staging(runner.memory)
  }

  reserve(size: number): void {
    if (this.#staging?.fits(size) === false) this.#send()
  }

  content(bytes: Uint8Array): Arg {
    return this.#staging?.stage(bytes) ?? Buffer.from(bytes)
  }

  expect(call: Call, judge: Judge): void {
    this.#expectations.push({ call, judge })
  }

  add(calls: readonly Call[]): void {
    const size = sizeOf(calls)
    if (size > this.#room) throw new LimitError('the calls for one file', this.#room, 'bytes')
    for (const call of calls) this.#calls.push(call)
    this.#size += size
    if (this.#size > this.#limit) this.#send()
  }

  /** Whether the caller should wait for {@link room} before it adds more. */
  get isFull(): boolean {
    return this.#inFlight.length >= maxInFlight || this.#failure !== undefined
  }

  /** Waits until another batch may be sent. @throws what made a batch fail. */
  async room(): Promise<void> {
    while (this.#failure === undefined && this.#inFlight.length >= maxInFlight) await this.#inFlight[0]
    if (this.#failure !== undefined) throw this.#failure.error
  }

  /** Sends what is left and waits until all is done. @throws what made a batch fail. */
  async finish(): Promise<void> {
    this.#send()
    while (this.#inFlight.length > 0) await this.#inFlight[0]
    if (this.#failure !== undefined) throw this.#failure.error
  }

  #send(): void {
    const calls = this.#calls
    const expectations = this.#expectations
    const slab = this.#staging?.take()
    this.#calls = []
    this.#expectations = []
    this.#size = 0
    if (calls.length === 0 || this.#failure !== undefined) return
    const done = this.#run(calls)
      .then((results) => {
        for (const { call, judge } of expectations) judge(results.value(call), call)
      })
      .catch((error: unknown) => {
        this.#failure ??= { error }
      })
      .then(() => {
        this.#staging?.release(slab)
        void this.#inFlight.shift()
      })
    this.#inFlight.push(done)
  }

  async #run(calls: readonly Call[]): Promise<Results> {
    if (!this.#walks) return this.#runner.run(calls)
    await this.#inFlight.at(-1)
    if (this.#failure !== undefined) throw this.#failure.error
    return runWalk(this.#runner, calls)
  }
}

/** Bytes that calls may take at most in a message. */
function sizeOf(calls: readonly Call[]): number {
  let size = 0
  for (let i = 0; i < calls.length; i++) {
    const { args } = calls[i] as Call
    // The call and its result.
    size += 64
    for (let j = 0; j < args.length; j++) {
      const arg = args[j] as Arg
      if (typeof arg !== 'number') size += argSize(arg)
    }
  }
  return size
}

function argSize(arg: Arg): number {
  if (typeof arg !== 'object') {
    // A character may be three bytes; a NUL and padding come behind.
    return typeof arg === 'string' ? arg.length * 3 + 8 : 0
  }
  if (arg instanceof Uint8Array) return arg.length + 8
  if (arg.kind === 'call') return 0
  if (arg.kind === 'out') return arg.size + 8
  return arg.words.reduce((sum: number, word) => sum + 8 + argSize(word), 8)
}
