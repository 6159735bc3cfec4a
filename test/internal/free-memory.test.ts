import { describe, expect, it } from 'vitest'
import { freeMemory } from '../../src/internal/free-memory.ts'

describe('freeMemory', () => {
  it('empties the buffer and all that shares its memory', () => {
    const bytes = Buffer.alloc(1000, 1)
    const view = bytes.subarray(10, 20)
    freeMemory(bytes)
    expect([bytes.length, view.length, bytes.buffer.byteLength]).toEqual([0, 0, 0])
  })

  it('gives the memory back at once, without the garbage collector', () => {
    const before = process.memoryUsage().arrayBuffers
    for (let i = 0; i < 100; i += 1) freeMemory(Buffer.allocUnsafeSlow(1 << 20))
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20 << 20)
  })
})
