import { LimitError } from '../../errors.ts'
import type { Arg, Call } from '../../linux/call.ts'
import type { CallRunner } from '../../linux/runner.ts'
import type { CallSink } from './planner.ts'
import { contentOf, Staging, type StagingMemory } from './staging.ts'

/** What makes the batches: a remote process. */
export interface BatchRunner extends CallRunner {
  /** Bytes that one batch may take. */
  readonly capacity: number
  /** Memory through which it takes content; without it content goes with the calls. */
  readonly memory?: StagingMemory
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
  readonly #staging: Staging | undefined
  #calls: Call[] = []
  /** Calls whose content is staged, by what they were before. */
  #staged = new Map<Call, Call>()
  #expectations: Expectation[] = []
  #size = 0
  readonly #inFlight: Promise<void>[] = []
  #failure: { readonly error: unknown } | undefined

  constructor(runner: BatchRunner) {
    this.#runner = runner
    this.#limit = Math.min(batchSize, runner.capacity)
    this.#staging = runner.memory === undefined ? undefined : new Staging(runner.memory)
  }

  add(calls: readonly Call[]): void {
    const whole = sizeOf(calls)
    const content = contentSize(calls)
    let staging = this.#stagingFor(content)
    if (this.#staging?.overflows(content) || this.#size + whole - (staging ? content : 0) > this.#limit) {
      const [expectations, before] = split(this.#expectations, calls)
      this.#expectations = before
      this.#send()
      this.#expectations = expectations
      staging = this.#stagingFor(content)
    }
    const size = whole - (staging ? content : 0)
    if (size > this.#runner.capacity) throw new LimitError('the calls for one file', this.#runner.capacity, 'bytes')
    for (const call of calls) this.#calls.push(staging === undefined ? call : this.#stage(staging, call))
    this.#size += size
  }

  /** Where content of that size can be staged, if it can. */
  #stagingFor(content: number): Staging | undefined {
    return content > 0 && this.#staging?.fits(content) ? this.#staging : undefined
  }

  #stage(staging: Staging, call: Call): Call {
    const content = contentOf(call)
    if (content === undefined) return call
    const staged = staging.staged(call, content)
    this.#staged.set(call, staged)
    return staged
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
    const staged = this.#staged
    const slab = this.#staging?.take()
    this.#calls = []
    this.#expectations = []
    this.#staged = new Map()
    this.#size = 0
    if (calls.length === 0 || this.#failure !== undefined) return
    const done = this.#runner
      .run(calls)
      .then((results) => {
        for (const { call, judge } of expectations) judge(results.value(staged.get(call) ?? call))
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
}

/** Expectations about `calls`, and the ones before them. */
function split(all: readonly Expectation[], calls: readonly Call[]): [Expectation[], Expectation[]] {
  const own = new Set(calls)
  return [all.filter(({ call }) => own.has(call)), all.filter(({ call }) => !own.has(call))]
}

/** Bytes of content that need not go with the calls. */
function contentSize(calls: readonly Call[]): number {
  let size = 0
  for (const call of calls) size += contentOf(call)?.length ?? 0
  return size
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
