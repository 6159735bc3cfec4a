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

  /** Answers the next batch; whether there was one. */
  answer(): boolean {
    const next = this.#answers.shift()
    next?.()
    return next !== undefined
  }

  /** What a call writes, and whether it lay in the memory. */
  written({ args }: Call): { readonly content: Buffer; readonly staged: boolean } {
    const [, content, length] = args
    if (content instanceof Uint8Array) return { content: Buffer.from(content), staged: false }
    const at = Number(content) - this.memory.address
    return { content: Buffer.from(this.memory.bytes.subarray(at, at + Number(length))), staged: true }
  }
}

/** A write of content that has been handed to the batches. */
function write(batches: Batches, content: Buffer): Call {
  batches.reserve(content.length)
  return writeTo(place, 9, batches.content(content), content.length)
}

describe('content on its way to the process of the target', () => {
  it('is copied into shared memory, so that its own may be used again', async () => {
    const target = new Target(2)
    const batches = new Batches(target)
    const long = Buffer.alloc(10_000, 1)
    const short = Buffer.alloc(100, 2)
    batches.add([write(batches, long), write(batches, short)])
    long.fill(3)
    const done = batches.finish()
    const [first, second] = target.batches[0] as readonly [Call, Call]
    expect(target.written(first)).toEqual({ content: Buffer.alloc(10_000, 1), staged: true })
    expect(target.written(second)).toEqual({ content: short, staged: true })
    target.answer()
    await done
  })

  it('is copied also where it goes with the calls', async () => {
    const target = new Target(0)
    const batches = new Batches(target)
    const content = Buffer.alloc(1000, 1)
    batches.add([write(batches, content)])
    content.fill(2)
    const done = batches.finish()
    const [call] = target.batches[0] as readonly [Call]
    expect(target.written(call)).toEqual({ content: Buffer.alloc(1000, 1), staged: false })
    target.answer()
    await done
  })

  it('has the results of its calls judged', async () => {
    const target = new Target(1)
    const batches = new Batches(target)
    const judged: number[] = []
    const call = write(batches, Buffer.alloc(5000, 1))
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
    for (const piece of pieces.slice(0, 4)) batches.add([write(batches, piece)])
    const finished = batches.finish()
    const all = (): Call[] => target.batches.flat()
    expect(all().map((call) => target.written(call))).toEqual(
      pieces.slice(0, 4).map((content, index) => ({ content, staged: index < 2 })),
    )
    while (target.answer()) await new Promise(setImmediate)
    await finished
    for (const piece of pieces.slice(4)) batches.add([write(batches, piece)])
    const done = batches.finish()
    expect(
      all()
        .slice(4)
        .map((call) => target.written(call)),
    ).toEqual(pieces.slice(4).map((content) => ({ content, staged: true })))
    while (target.answer()) await new Promise(setImmediate)
    await done
  })
})
