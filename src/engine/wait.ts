import { type ExitStatus, InvalidArgumentError } from '../errors.ts'
import type { LogLine, LogOptions, OutputName } from './output.ts'

/** What a wait strategy may look at. */
export interface WaitTarget {
  readonly id: string
  /** Resolves when the container has ended; never rejects. */
  readonly exited: Promise<ExitStatus>
  logs(options?: LogOptions): AsyncIterable<LogLine>
}

/** Decides when a container is ready. One's own is an object with these two members. */
export interface WaitStrategy {
  /** Names it in errors: `log /ready/`. */
  readonly name: string
  /**
   * Resolves when the container is ready. That the container ends and that the time is over is looked after by
   * whoever calls: `signal` is aborted then.
   */
  wait(target: WaitTarget, signal: AbortSignal): Promise<void>
  /** Whether the end of the container is what is waited for, and no failure. Default false. */
  readonly untilExit?: boolean
}

/** Strategies for `ready`. */
export const wait: {
  /** A line of the log contains `pattern`, `count` times (default once). */
  log(pattern: string | RegExp, options?: { readonly count?: number; readonly stream?: OutputName }): WaitStrategy
  /** The container has ended, with one of `codes` (default 0). */
  exit(...codes: readonly number[]): WaitStrategy
  /** All of the strategies. */
  all(...strategies: readonly WaitStrategy[]): WaitStrategy
  /** One of the strategies. */
  any(...strategies: readonly WaitStrategy[]): WaitStrategy
} = {
  log(pattern, { count = 1, stream } = {}) {
    if (!Number.isInteger(count) || count < 1) throw new InvalidArgumentError(`count must be at least 1, not ${count}`)
    const matches = (text: string): boolean =>
      typeof pattern === 'string'
        ? text.includes(pattern)
        : new RegExp(pattern.source, pattern.flags.replace(/[gy]/g, '')).test(text)
    return {
      name: `log ${String(pattern)}`,
      async wait(target, signal) {
        let seen = 0
        for await (const line of target.logs({ follow: true, signal })) {
          if ((stream === undefined || line.stream === stream) && matches(line.text) && ++seen === count) return
        }
        // The log is over, so the container is: whoever calls will say so.
        await forever(signal)
      },
    }
  },
  exit(...codes) {
    const wanted = codes.length === 0 ? [0] : codes
    return {
      name: `exit with ${wanted.join(' or ')}`,
      untilExit: true,
      async wait(target) {
        const { code } = await target.exited
        if (!wanted.includes(code)) throw new UnexpectedExit(code)
      },
    }
  },
  all: (...strategies) => ({
    name: strategies.map((s) => s.name).join(' and '),
    untilExit: strategies.some((s) => s.untilExit === true),
    wait: async (target, signal) => void (await Promise.all(strategies.map((s) => s.wait(target, signal)))),
  }),
  any: (...strategies) => ({
    name: strategies.map((s) => s.name).join(' or '),
    untilExit: strategies.some((s) => s.untilExit === true),
    wait: (target, signal) => Promise.any(strategies.map((s) => s.wait(target, signal))),
  }),
}

/** The container ended with a code that was not waited for. @internal */
export class UnexpectedExit extends Error {
  readonly code: number

  constructor(code: number) {
    super(`exit code ${code}`)
    this.code = code
  }
}

function forever(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason)
    else signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
}
