import { getEventListeners } from 'node:events'
import { describe, expect, it } from 'vitest'
import { SingleFlight } from '../../src/internal/single-flight.ts'

describe('a single flight', () => {
  it('runs the work once for everyone who asks at the same time, and again for who asks later', async () => {
    const flights = new SingleFlight<number>()
    let runs = 0
    const work = async (): Promise<number> => ++runs
    expect(await Promise.all([flights.run('a', work), flights.run('a', work), flights.run('b', work)])).toEqual([
      1, 1, 2,
    ])
    expect(await flights.run('a', work)).toBe(3)
  })

  it('gives everyone its error, and remembers none', async () => {
    const flights = new SingleFlight<number>()
    const fail = async (): Promise<number> => {
      throw new Error('no')
    }
    await Promise.all([1, 2].map(() => expect(flights.run('a', fail)).rejects.toThrow('no')))
    expect(await flights.run('a', async () => 1)).toBe(1)
  })

  it('goes on when one of its callers leaves, and is aborted when the last one has left', async () => {
    const flights = new SingleFlight<number>()
    const [first, second] = [new AbortController(), new AbortController()]
    let inner: AbortSignal | undefined
    const work = (signal: AbortSignal): Promise<number> => {
      inner = signal
      return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    }
    const waits = [first, second].map(({ signal }) => flights.run('a', work, signal))
    const outcomes = Promise.allSettled(waits)
    first.abort(new Error('one'))
    await expect(waits[0]).rejects.toThrow('one')
    expect(inner?.aborted).toBe(false)
    second.abort(new Error('two'))
    await expect(waits[1]).rejects.toThrow('two')
    expect(inner?.aborted).toBe(true)
    await outcomes
    for (const { signal } of [first, second]) expect(getEventListeners(signal, 'abort')).toHaveLength(0)
  })

  it('does not begin for a caller that has already left', async () => {
    const flights = new SingleFlight<number>()
    let ran = false
    const work = async (): Promise<number> => {
      ran = true
      return 1
    }
    await expect(flights.run('a', work, AbortSignal.abort('gone'))).rejects.toBe('gone')
    expect(ran).toBe(false)
  })
})
