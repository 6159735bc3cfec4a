import { InvalidArgumentError, NetworkError, RegistryError } from '../errors.ts'
import { delay } from '../internal/abort.ts'
import { type Duration, toMilliseconds } from '../internal/units.ts'

/** When and how often a request is repeated. */
export interface RetryOptions {
  /** How often a request is sent at most, the first time included, 1 to 100; default 5. 1 repeats nothing. */
  readonly attempts?: number | undefined
  /** Wait before the first repetition; each further one waits twice as long. Default 250 ms. */
  readonly minDelay?: Duration | undefined
  /** The longest wait of our own choice; default 10 seconds. */
  readonly maxDelay?: Duration | undefined
  /**
   * Repetitions of all requests of a client together, 0 to 10,000, so that many of them do not keep a
   * registry down that is; each request that succeeds gives one back. Default 100.
   */
  readonly budget?: number | undefined
  /** The longest `Retry-After` that is obeyed; a longer one ends the operation. Default 1 minute. */
  readonly maxRetryAfter?: Duration | undefined
}

/** {@link RetryOptions} with every default filled in; times in milliseconds. */
export interface RetryPolicy {
  readonly attempts: number
  readonly minDelay: number
  readonly maxDelay: number
  readonly maxRetryAfter: number
  /** What all that share this policy may still repeat. */
  readonly budget: RetryBudget
}

/** Repetitions that are left to a client. */
export class RetryBudget {
  readonly #capacity: number
  #left: number

  constructor(capacity: number) {
    this.#capacity = capacity
    this.#left = capacity
  }

  /** Takes one, if one is left. */
  take(): boolean {
    if (this.#left === 0) return false
    this.#left--
    return true
  }

  /** Gives one back, for a success. */
  earn(): void {
    if (this.#left < this.#capacity) this.#left++
  }
}

/** Fills in the defaults. @throws InvalidArgumentError */
export function retryPolicy(options: RetryOptions = {}): RetryPolicy {
  const { attempts = 5, minDelay = 250, maxDelay = '10s', maxRetryAfter = '1m', budget = 100 } = options
  if (!Number.isInteger(attempts) || attempts < 1 || attempts > 100) {
    throw new InvalidArgumentError(`retry.attempts must be 1 to 100, not ${attempts}`, { subject: 'retry.attempts' })
  }
  if (!Number.isInteger(budget) || budget < 0 || budget > 10_000) {
    throw new InvalidArgumentError(`retry.budget must be 0 to 10000, not ${budget}`, { subject: 'retry.budget' })
  }
  return {
    attempts,
    budget: new RetryBudget(budget),
    minDelay: toMilliseconds(minDelay, 'retry.minDelay'),
    maxDelay: toMilliseconds(maxDelay, 'retry.maxDelay'),
    maxRetryAfter: toMilliseconds(maxRetryAfter, 'retry.maxRetryAfter'),
  }
}

/** What one attempt came to. */
export type Attempt<T> =
  | { readonly value: T }
  /** A failure that may pass; `retryAfter` is the wait the server asked for, in milliseconds. */
  | { readonly error: unknown; readonly retryAfter?: number | undefined }

/**
 * Calls `attempt` until it has a value, with waits that double and vary, or as long as the server
 * asked if that is longer; `onRetry` hears of each, in milliseconds. What `attempt` throws is final; a failure it returns is thrown when no attempt is left.
 */
export async function retrying<T>(
  policy: RetryPolicy,
  signal: AbortSignal | undefined,
  attempt: () => Promise<Attempt<T>>,
  onRetry?: (delay: number, error: unknown) => void,
): Promise<T> {
  for (let count = 1; ; count++) {
    const outcome = await attempt()
    if ('value' in outcome) {
      policy.budget.earn()
      return outcome.value
    }
    const asked = outcome.retryAfter ?? 0
    if (count >= policy.attempts || asked > policy.maxRetryAfter || !policy.budget.take()) throw outcome.error
    const wait = Math.max(asked, backoff(count, policy))
    onRetry?.(wait, outcome.error)
    await delay(wait, signal)
  }
}

/** Milliseconds to wait after failure number `count`: between half and the whole of a time that doubles. */
export function backoff(count: number, policy: RetryPolicy, random: () => number = Math.random): number {
  const ceiling = Math.min(policy.maxDelay, policy.minDelay * 2 ** Math.min(count - 1, 30))
  return Math.round(ceiling * (0.5 + random() / 2))
}

/**
 * Statuses by which a server says that the same request may succeed later. 499 and 522 come from
 * proxies that lost their client or their origin.
 */
const transientStatuses: ReadonlySet<number> = new Set([408, 425, 429, 499, 500, 502, 503, 504, 522])

/** Whether a status may pass by itself. */
export function isTransientStatus(status: number): boolean {
  return transientStatuses.has(status)
}

/**
 * Errors after which the same request may succeed. A refused connection, an unknown host and a
 * certificate that does not fit are not among them: waiting does not help, it only delays the message.
 */
const transientCodes: ReadonlySet<string> = new Set([
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EAI_AGAIN',
  'ENETUNREACH',
  'EHOSTUNREACH',
  'ENETDOWN',
  'ECONNABORTED',
  'ERR_STREAM_PREMATURE_CLOSE',
  'UND_ERR_SOCKET',
  'UND_ERR_CONNECT_TIMEOUT',
  'ERR_OCI_TIMEOUT',
])

/** Whether a network failure may pass by itself; looks through `cause`. */
export function isTransientError(error: unknown): boolean {
  for (let e = error, depth = 0; e instanceof Error && depth < 5; e = e.cause, depth++) {
    const code: unknown = Reflect.get(e, 'code')
    if (typeof code === 'string' && transientCodes.has(code)) return true
  }
  return false
}

/** The forms of a date in HTTP (RFC 9110, 5.6.7); the second one is old, and in UTC without saying so. */
const httpDate = /^[A-Z][a-z]{2,8}, \d{2}[ -][A-Z][a-z]{2}[ -]\d{2,4} \d{2}:\d{2}:\d{2} GMT$/
const asctime = /^[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} \d{4}$/

/**
 * Milliseconds that a `Retry-After` header asks for (RFC 9110, 10.2.3: seconds or an HTTP date);
 * undefined when it is absent or malformed. A date in the past is 0.
 */
export function parseRetryAfter(header: string | null, now: number = Date.now()): number | undefined {
  const text = header?.trim() ?? ''
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000
  const date = Date.parse(httpDate.test(text) ? text : asctime.test(text) ? `${text} GMT` : '')
  return Number.isNaN(date) ? undefined : Math.max(0, date - now)
}

/** What an attempt came to that threw `error`. @throws `error` when it will not pass. */
export function failedAttempt(error: unknown): Attempt<never> {
  if (!mayPass(error)) throw error
  return { error, retryAfter: error instanceof RegistryError ? error.retryAfter : undefined }
}

/** Whether an error of a request may be over when the same is tried again. */
export function mayPass(error: unknown): boolean {
  if (error instanceof RegistryError) return isTransientStatus(error.status)
  return error instanceof NetworkError && isTransientError(error)
}
