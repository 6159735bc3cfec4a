import { type ExitStatus, StartupError, TimeoutError } from '../errors.ts'
import { untilAborted } from '../internal/abort.ts'
import type { Image } from './image.ts'
import type { Log } from './runner.ts'
import { UnexpectedExit, type WaitStrategy, type WaitTarget, waitFor } from './wait.ts'

/** Lines of the log that an error brings along. */
const linesInErrors = 50

/** A container that is waited for, as errors name it. */
export interface ReadyTarget extends WaitTarget {
  readonly name: string
  readonly image: Image
}

/**
 * Resolves when `container` is ready by `strategy`.
 * @throws StartupError with its last lines: at once when it ends before, and when `signal` says that the time
 * is over. @throws whatever else `signal` is aborted with, or the strategy throws.
 */
export async function untilReady(
  container: ReadyTarget,
  output: Log,
  strategy: WaitStrategy,
  signal: AbortSignal,
): Promise<void> {
  const began = Date.now()
  const controller = new AbortController()
  const waiting = waitFor(strategy, container, controller.signal)
  try {
    await untilAborted(waiting, signal)
  } catch (error) {
    const exit = error instanceof UnexpectedExit ? error.exit : undefined
    if (exit === undefined && !(error instanceof TimeoutError && error === signal.reason)) throw error
    const seconds = ((Date.now() - began) / 1000).toFixed(1)
    const what = exit === undefined ? 'was not ready in time' : `exited with ${describe(exit)}`
    const message = `container ${container.name} (${container.image.reference}) ${what} while waiting for ${strategy.name} (${seconds} s)`
    const logs = await output.tail(linesInErrors)
    throw new StartupError(container.name, message, exit, logs, { cause: error })
  } finally {
    // Whatever still waits; it has nobody to tell.
    waiting.catch(() => {})
    controller.abort(signal.reason)
  }
}

function describe({ code, signal, oomKilled }: ExitStatus): string {
  const why = [signal, oomKilled ? 'out of memory' : undefined].filter((each) => each !== undefined)
  return `code ${code}${why.length === 0 ? '' : ` (${why.join(', ')})`}`
}
