import { describe, expect, it } from 'vitest'
import { isTurnOver, nextTurn } from '../../src/internal/turn.ts'

function work(milliseconds: number): void {
  const end = performance.now() + milliseconds
  while (performance.now() < end);
}

describe('a turn of the event loop', () => {
  it('is over after some milliseconds of work, for all who ask, and begins anew', async () => {
    await nextTurn()
    isTurnOver()
    work(6)
    expect([isTurnOver(), isTurnOver()]).toEqual([true, true])
    await nextTurn()
    isTurnOver()
    await nextTurn()
    let asked = 0
    while (!isTurnOver()) asked += 1
    expect(asked).toBeGreaterThan(0)
  })
})
