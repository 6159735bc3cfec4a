/** Milliseconds of work after which others should have their turn. */
const enough = 4

let begun: number | undefined

/**
 * Whether this turn of the event loop has had enough work: then wait for {@link nextTurn} before the next piece of it. All
 * who ask share the time, so that many at once keep the loop no longer than one. The first to ask begins it.
 */
export function isTurnOver(): boolean {
  if (begun === undefined) {
    begun = performance.now()
    setImmediate(() => {
      begun = undefined
    })
  }
  return performance.now() - begun > enough
}

/** Lets others run. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
