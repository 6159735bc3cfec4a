import { InvalidArgumentError } from '../errors.ts'
import type { Architecture } from './architecture.ts'
import type { Call, Out } from './call.ts'
import { encode } from './encode.ts'
import { errnoNumber, syscallError } from './errno.ts'
import { isTolerated } from './local.ts'
import { headerSize, messageAddress, messageCapacity } from './remote/memory.ts'
import { interrupted } from './resume.ts'
import type { CallRunner, Results } from './runner.ts'

/** Chooses calls: by the name of the system call, or by a look at the call. */
export type CallMatcher = string | ((call: Call) => boolean)

/** What the fake answers to a call. */
export interface FakeAnswer {
  /** Result of the call. Default: what the fake answers without being told. */
  readonly value?: number
  /** Bytes put where the call has the kernel write, the first {@link Out} of its arguments first. */
  readonly bytes?: readonly Uint8Array[]
}

/** How a {@link FakeRunner} behaves. */
export interface FakeOptions {
  /** Architecture whose system-call numbers must be known. Default x64. */
  readonly architecture?: Architecture | undefined
}

interface Rule {
  readonly matches: (call: Call, position: number) => boolean
  readonly answer: FakeAnswer | { readonly errno: number }
  left: number
}

// Results that are new descriptors.
const opens =
  /^(open|openat|openat2|creat|dup|memfd_create|memfd_secret|socket|accept4?|epoll_create1|eventfd2|signalfd4|timerfd_create|inotify_init1?|fsopen|fsmount|fspick|open_tree|open_tree_attr|pidfd_open|pidfd_getfd|userfaultfd|perf_event_open|bpf|io_uring_setup|landlock_create_ruleset)$/
const clones = /^(clone3?|fork|vfork)$/
const writes = /^(write|pwrite64)$/
const reads = /^(read|pread64|readlinkat|getdents64|f?getxattr|lgetxattr|f?listxattr|llistxattr)$/
const pairs = /^(pipe2|socketpair)$/
const duplicates = new Set([0, 1030]) // F_DUPFD, F_DUPFD_CLOEXEC
const firstDescriptor = 100
const firstPid = 1000

/**
 * Makes no call: it records them and answers as a kernel would that lets everything succeed: new
 * descriptors count up from 100, processes from 1000, what is written is written whole, what is read
 * is empty, all else gives 0. Arguments are checked as for a real process. Errors are put in with {@link fail}, other
 * answers with {@link answer}. It stands in for a Remote or Channel (`run`) and for `perform`.
 */
export class FakeRunner implements CallRunner {
  /** Every call that was made, in order; one that failed is the last of its batch. */
  readonly calls: Call[] = []
  /** The batches as they were handed over, whether made whole or not. */
  readonly batches: (readonly Call[])[] = []
  private readonly architecture: Architecture
  private readonly rules: Rule[] = []
  private nextDescriptor = firstDescriptor
  private nextPid = firstPid

  constructor(options: FakeOptions = {}) {
    this.architecture = options.architecture ?? 'x64'
  }

  /** Names of the calls that were made. */
  get names(): readonly string[] {
    return this.calls.map((call) => call.name)
  }

  /**
   * Lets calls fail with the errno of that name: those that match, or the one at that position (counted from
   * 0 over all batches). `times` is for how many of them. Default 1.
   */
  fail(where: CallMatcher | number, errno: string, times = 1): this {
    const number = errnoNumber(errno)
    if (number === undefined) throw new InvalidArgumentError(`no errno is named ${errno}`, { subject: errno })
    return this.add(where, { errno: number }, times)
  }

  /** Answers matching calls, or the one at that position, with `answer`; `times` of them. Default all. */
  answer(where: CallMatcher | number, answer: FakeAnswer, times: number = Number.POSITIVE_INFINITY): this {
    return this.add(where, answer, times)
  }

  /** See {@link CallRunner.run}. */
  async run(calls: readonly Call[]): Promise<Results> {
    if (calls.length === 0) throw new InvalidArgumentError('a batch must have at least one call')
    this.check(calls)
    this.batches.push(calls)
    return this.make(calls)
  }

  /** Stands in for `perform` of local.ts. */
  perform(call: Call): number {
    return this.performFor(call).value
  }

  /** Stands in for `performFor` of local.ts. */
  performFor(call: Call): { readonly value: number; bytes(out: Out): Buffer } {
    this.check([call])
    const results = this.make([call])
    return { value: results.value(call), bytes: (out) => results.bytes(out) }
  }

  private add(where: CallMatcher | number, answer: Rule['answer'], left: number): this {
    const matches: Rule['matches'] =
      typeof where === 'number'
        ? (_, position) => position === where
        : typeof where === 'string'
          ? (call) => call.name === where
          : where
    this.rules.push({ matches, answer, left })
    return this
  }

  /** Refuses what a real process would refuse. */
  private check(calls: readonly Call[]): void {
    const memory = Buffer.alloc(headerSize + messageCapacity)
    encode(calls, memory, { architecture: this.architecture, address: messageAddress })
  }

  private make(calls: readonly Call[]): Results {
    const values = new Map<Call, number>()
    const written = new Map<Out, Buffer>()
    const results: Results = {
      value: (call) => known(values.get(call), `${call.name} is not part of the batch`),
      bytes: (out) => known(written.get(out), 'no call of the batch writes to that memory'),
    }
    for (const [position, call] of calls.entries()) {
      const rule = this.ruleFor(call)
      this.calls.push(call)
      const answered = rule !== undefined && 'bytes' in rule ? rule.bytes : undefined
      outsOf(call.args).forEach((out, index) => {
        const bytes = answered?.[index] ?? this.plausibleBytes(call)
        if (bytes !== undefined || !written.has(out)) written.set(out, padded(bytes, out.size))
      })
      if (rule !== undefined && 'errno' in rule) {
        if (!isTolerated(call, rule.errno)) {
          throw interrupted(syscallError(call, rule.errno), { calls, position, results })
        }
        values.set(call, -rule.errno)
      } else {
        values.set(call, rule?.value ?? this.plausible(call, answered?.[0]?.length ?? 0))
      }
    }
    return results
  }

  /** The latest rule that matches: a test adds exceptions behind what holds for all its calls. */
  private ruleFor(call: Call): Rule['answer'] | undefined {
    const rule = this.rules.findLast((each) => each.left > 0 && each.matches(call, this.calls.length))
    if (rule !== undefined) rule.left--
    return rule?.answer
  }

  private plausible(call: Call, bytesRead: number): number {
    if (opens.test(call.name)) return this.nextDescriptor++
    if (call.name === 'fcntl' && duplicates.has(Number(call.args[1]))) return this.nextDescriptor++
    if (call.name === 'dup3') return Number(call.args[1])
    if (clones.test(call.name)) return this.nextPid++
    if (writes.test(call.name)) return Number(call.args[2])
    return reads.test(call.name) ? bytesRead : 0
  }

  private plausibleBytes(call: Call): Uint8Array | undefined {
    if (!pairs.test(call.name)) return undefined
    return new Uint8Array(Int32Array.of(this.nextDescriptor++, this.nextDescriptor++).buffer)
  }
}

function known<T>(value: T | undefined, otherwise: string): T {
  if (value === undefined) throw new InvalidArgumentError(otherwise)
  return value
}

/** The memory that a call has the kernel write to, in the order of its arguments. */
function outsOf(args: Call['args']): readonly Out[] {
  return args.flatMap((arg) => {
    if (typeof arg !== 'object' || arg instanceof Uint8Array) return []
    if (arg.kind === 'struct') return outsOf(arg.words)
    return arg.kind === 'out' ? [arg] : []
  })
}

function padded(bytes: Uint8Array | undefined, size: number): Buffer {
  const memory = Buffer.alloc(size)
  if (bytes !== undefined) memory.set(bytes.subarray(0, size))
  return memory
}
