/** How a promise was settled. */
export type Settled<T> = { readonly value: T } | { readonly error: unknown }

/** A promise that does not reject, so that it may wait to be looked at. */
export function settled<T>(promise: Promise<T>): Promise<Settled<T>> {
  return promise.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  )
}

/** What it was settled with: the value, or the error is thrown. */
export function unsettled<T>(outcome: Settled<T>): T {
  if ('error' in outcome) throw outcome.error
  return outcome.value
}
