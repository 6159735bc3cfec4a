import { TimeoutError } from '../errors.ts'

/** Rejects with `signal.reason` when `signal` aborts before `promise` settles; leaves no listener behind. */
export async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise
  signal.throwIfAborted()
  let onAbort: (() => void) | undefined
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
  })
  try {
    return await Promise.race([promise, aborted])
  } finally {
    if (onAbort !== undefined) signal.removeEventListener('abort', onAbort)
  }
}

/**
 * Calls `act` once when `signal` aborts, and at once when it has already, of which it tells nobody any more.
 * @returns what ends that; to be called when there is nothing left to abort.
 */
export function onAbort(signal: AbortSignal | undefined, act: () => void): () => void {
  if (signal?.aborted === true) act()
  else signal?.addEventListener('abort', act, { once: true })
  return () => signal?.removeEventListener('abort', act)
}

/** Resolves after `ms` milliseconds; rejects with `signal.reason` when aborted first. */
export async function delay(ms: number, signal?: AbortSignal): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  try {
    await untilAborted(
      new Promise<void>((resolve) => {
        timer = setTimeout(resolve, ms)
      }),
      signal,
    )
  } finally {
    clearTimeout(timer)
  }
}

/** A deadline joined with a caller's signal. `clear()` must be called when the work is over. */
export interface Deadline {
  readonly signal: AbortSignal
  clear(): void
}

/** A signal that aborts with a {@link TimeoutError} after `ms`, or with the caller's reason. */
export function deadline(subject: string, ms: number | undefined, signal: AbortSignal | undefined): Deadline {
  const controller = new AbortController()
  const unlink = onAbort(signal, () => controller.abort(signal?.reason))
  const timer = ms === undefined ? undefined : setTimeout(() => controller.abort(new TimeoutError(subject, ms)), ms)
  return {
    signal: controller.signal,
    clear() {
      clearTimeout(timer)
      unlink()
    },
  }
}
