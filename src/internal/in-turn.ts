import { untilAborted } from './abort.ts'

const running = new Map<string, Promise<unknown>>()

/**
 * Runs work on `key` when nobody in this process does any more, however that ended. Whoever waits is
 * not held up when `signal` aborts; work that has begun looks after it by itself.
 */
export async function inTurn<T>(key: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  for (let other = running.get(key); other !== undefined; other = running.get(key)) await untilAborted(other, signal)
  const result = work()
  const forget = (): boolean => running.delete(key)
  running.set(key, result.then(forget, forget))
  return result
}
