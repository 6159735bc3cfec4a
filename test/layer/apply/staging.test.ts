import { describe, expect, it } from 'vitest'
import { Batches } from '../../../src/layer/apply/batches.ts'
import { writeTo } from '../../../src/layer/apply/calls.ts'
import type { Call } from '../../../src/linux/call.ts'
import type { Results } from '../../../src/linux/runner.ts'

const place = { arg: 'f', text: 'f' }
const slab = 512 * 1024

/** A target that sees the memory, and answers a batch when it is told to. */
class Target {
  readonly capacity = 1 << 20
  readonly memory: { readonly bytes: Buffer; readonly address: number }
  readonly batches: (readonly Call[])[] = []
  readonly #answers: (() => void)[] = []

  constructor(slabs: number) {
    this.memory = { bytes: Buffer.alloc(slabs * slab), address: 0x1000 }
  }

  run(calls: readonly Call[]): Promise<Results> {
    this.batches.push(calls)
    const value = (call: Call): number => (calls.includes(call) ? Number(call.args[2]) : -1)
    return new Promise((resolve) => {
      this.#answers.push(() => resolve({ value, bytes: () => Buffer.alloc(0) }))
    })
  }

  answer(): void {
    this.#answers.shift()?.()
  }

  /** What a call writes, and whether it lay in the memory. */
  written({ args }: Call): { readonly content: Buffer; readonly staged: boolean } {
    const [, content, length] = args
    if (content instanceof Uint8Array) return { content: Buffer.from(content), staged: false }
    const at = Number(content) - this.memory.address
    return { content: Buffer.from(this.memory.bytes.subarray(at, at + Number(length))), staged: true }
  }
}

describe('content on its way to the process of the target', () => {
  it('lies in shared memory when it is long, and goes with the calls when it is short', async () => {
    const target = new Target(2)
    const batches = new Batches(target)
    const long = Buffer.alloc(10_000, 1)
    const short = Buffer.alloc(100, 2)
    batches.add([writeTo(place, 9, long), writeTo(place, 9, short)])
    const done = batches.finish()
    const [first, second] = target.batches[0] as readonly [Call, Call]
    expect(target.written(first)).toEqual({ content: long, staged: true })
    expect(target.written(second)).toEqual({ content: short, staged: false })
    target.answer()
    await done
  })

  it('has results judged as if it had gone with the calls', async () => {
    const target = new Target(1)
    const batches = new Batches(target)
    const judged: number[] = []
    const call = writeTo(place, 9, Buffer.alloc(5000, 1))
    batches.expect(call, (result) => judged.push(result))
    batches.add([call])
    const done = batches.finish()
    target.answer()
    await done
    expect(judged).toEqual([5000])
  })

  it('is not overwritten before its batch is answered; where no slab is free it goes with the calls', async () => {
    const target = new Target(2)
    const batches = new Batches(target)
    const pieces = Array.from({ length: 6 }, (_, index) => Buffer.alloc(400_000, index + 1))
    for (const piece of pieces.slice(0, 4)) batches.add([writeTo(place, 9, piece)])
    const finished = batches.finish()
    const all = (): Call[] => target.batches.flat()
    expect(all().map((call) => target.written(call))).toEqual(
      pieces.slice(0, 4).map((content, index) => ({ content, staged: index < 2 })),
    )
    for (let i = 0; i < 4; i += 1) target.answer()
    await finished
    for (const piece of pieces.slice(4)) batches.add([writeTo(place, 9, piece)])
    const done = batches.finish()
    expect(
      all()
        .slice(4)
        .map((call) => target.written(call)),
    ).toEqual(pieces.slice(4).map((content) => ({ content, staged: true })))
    for (let i = 0; i < 2; i += 1) target.answer()
    await done
  })
})
