import { type ExitStatus, InvalidArgumentError } from '../errors.ts'
import type { LogLine, OutputName } from './line-splitter.ts'
import type { LogOptions } from './output.ts'

/** What a wait strategy may look at. */
export interface WaitTarget {
  readonly id: string
  /** Resolves when the container has ended; never rejects. */
  readonly exited: Promise<ExitStatus>
  /** The lines it wrote; see `Container.logs`. */
  logs(options?: LogOptions): AsyncIterable<LogLine>
}

/** Decides when a container is ready. One's own is an object with these members. */
export interface WaitStrategy {
  /** Names it in errors: `log /ready/`. */
  readonly name: string
  /**
   * Resolves when the container is ready. That the container ends and that the time is over is looked after by
   * whoever calls: `signal` is aborted then.
   */
  wait(target: WaitTarget, signal: AbortSignal): Promise<void>
  /** Whether the end of the container may be what is waited for, and is no failure by itself. Default false. */
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
    if (!Number.isInteger(count) || count < 1) {
      throw new InvalidArgumentError(`count must be at least 1, not ${count}`, { subject: 'count' })
    }
    const matches = matcher(pattern)
    return {
      name: `log ${typeof pattern === 'string' ? JSON.stringify(pattern) : pattern}${count === 1 ? '' : ` ${count} times`}`,
      async wait(target, signal) {
        let seen = 0
        for await (const line of target.logs({ follow: true, signal })) {
          if ((stream === undefined || line.stream === stream) && matches(line.text) && ++seen === count) return
        }
        // The log is over, so the container is, or will be.
        throw new UnexpectedExit(await target.exited)
      },
    }
  },
  exit(...codes) {
    const wanted = codes.length === 0 ? [0] : codes
    return {
      name: `exit with ${wanted.join(' or ')}`,
      untilExit: true,
      async wait(target) {
        const exit = await target.exited
        if (!wanted.includes(exit.code)) throw new UnexpectedExit(exit)
      },
    }
  },
  all(...strategies) {
    assertSome('all', strategies)
    return {
      name: strategies.map((s) => s.name).join(' and '),
      untilExit: strategies.some((s) => s.untilExit === true),
      async wait(target, signal) {
        await Promise.all(strategies.map((strategy) => waitFor(strategy, target, signal)))
      },
    }
  },
  any(...strategies) {
    assertSome('any', strategies)
    return {
      name: strategies.map((s) => s.name).join(' or '),
      untilExit: strategies.some((s) => s.untilExit === true),
      async wait(target, signal) {
        const failures: unknown[] = []
        const attempts = strategies.map((strategy) =>
          waitFor(strategy, target, signal).catch((error: unknown) => {
            failures.push(error)
            throw error
          }),
        )
        await Promise.any(attempts).catch(() => {
          // The end of the container may be what let all of them fail; else the first to give up says why.
          throw failures.find((error) => error instanceof UnexpectedExit) ?? failures[0]
        })
      },
    }
  },
}

/** The container ended, and that is not what was waited for. @internal */
export class UnexpectedExit extends Error {
  readonly exit: ExitStatus

  constructor(exit: ExitStatus) {
    super(`exit code ${exit.code}`)
    this.exit = exit
  }
}

/**
 * Waits for one strategy. Rejects with {@link UnexpectedExit} when the container ends meanwhile, unless that
 * is what the strategy may wait for. @internal
 */
export async function waitFor(strategy: WaitStrategy, target: WaitTarget, signal: AbortSignal): Promise<void> {
  const ready = strategy.wait(target, signal)
  if (strategy.untilExit === true) return ready
  const ended = target.exited.then((exit) => Promise.reject(new UnexpectedExit(exit)))
  await Promise.race([ready, ended])
}

function matcher(pattern: string | RegExp): (text: string) => boolean {
  if (typeof pattern === 'string') return (text) => text.includes(pattern)
  // With `g` or `y` an expression goes on where it has found something last.
  const expression = new RegExp(pattern.source, pattern.flags.replace(/[gy]/g, ''))
  return (text) => expression.test(text)
}

function assertSome(name: string, strategies: readonly WaitStrategy[]): void {
  if (strategies.length === 0) {
    throw new InvalidArgumentError(`wait.${name} needs a strategy to wait for`, { subject: name })
  }
}
