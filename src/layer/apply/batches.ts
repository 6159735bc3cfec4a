import { LimitError } from '../../errors.ts'
import type { Arg, Call } from '../../linux/call.ts'
import type { CallRunner } from '../../linux/runner.ts'
import type { CallSink } from './planner.ts'

/** What makes the batches: a remote process. */
export interface BatchRunner extends CallRunner {
  /** Bytes that one batch may take. */
  readonly capacity: number
}

interface Expectation {
  readonly call: Call
  readonly judge: (result: number) => void
}

/** Batches on their way at a time: one is made while the next ones are encoded and in the socket. */
const maxInFlight = 3
/** Bytes of a batch: large enough that the round trip does not show, small enough to start early. */
const batchSize = 512 * 1024

/**
 * Gathers calls into batches and has them made in order. The first failure ends it: it is thrown by the next
 * {@link Batches.room} or {@link Batches.finish}, and no further batch is sent.
 */
export class Batches implements CallSink {
  readonly #runner: BatchRunner
  readonly #limit: number
  #calls: Call[] = []
  #expectations: Expectation[] = []
  #size = 0
  readonly #inFlight: Promise<void>[] = []
  #failure: { readonly error: unknown } | undefined

  constructor(runner: BatchRunner) {
    this.#runner = runner
    this.#limit = Math.min(batchSize, runner.capacity)
  }

  add(calls: readonly Call[]): void {
    const size = sizeOf(calls)
    if (this.#size + size > this.#limit) {
      const [expectations, before] = split(this.#expectations, calls)
      this.#expectations = before
      this.#send()
      this.#expectations = expectations
    }
    if (size > this.#runner.capacity) throw new LimitError('the calls for one file', this.#runner.capacity, 'bytes')
    for (const call of calls) this.#calls.push(call)
    this.#size += size
  }

  expect(call: Call, judge: (result: number) => void): void {
    this.#expectations.push({ call, judge })
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
    this.#calls = []
    this.#expectations = []
    this.#size = 0
    if (calls.length === 0 || this.#failure !== undefined) return
    const done = this.#runner
      .run(calls)
      .then((results) => {
        for (const { call, judge } of expectations) judge(results.value(call))
      })
      .catch((error: unknown) => {
        this.#failure ??= { error }
      })
      .then(() => {
        void this.#inFlight.shift()
      })
    this.#inFlight.push(done)
  }
}

/** Expectations about `calls`, and the ones before them. */
function split(all: readonly Expectation[], calls: readonly Call[]): [Expectation[], Expectation[]] {
  const own = new Set(calls)
  return [all.filter(({ call }) => own.has(call)), all.filter(({ call }) => !own.has(call))]
}

/** Bytes that calls may take at most in a message. */
function sizeOf(calls: readonly Call[]): number {
  let size = 0
  for (const { args } of calls) {
    // The call and its result.
    size += 64
    for (const arg of args) size += argSize(arg)
  }
  return size
}

function argSize(arg: Arg): number {
  // A character may be three bytes; a NUL and padding come behind.
  if (typeof arg === 'string') return arg.length * 3 + 8
  if (arg instanceof Uint8Array) return arg.length + 8
  if (typeof arg !== 'object' || arg.kind === 'call') return 0
  if (arg.kind === 'out') return arg.size + 8
  return arg.words.reduce((sum: number, word) => sum + 8 + argSize(word), 8)
}
