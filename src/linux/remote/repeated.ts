import type { Call, Place } from '../call.ts'
import { encodeWithGaps, fillGaps, type Gap, isAscii, type Layout, placesOfText, type Target } from '../encode.ts'

/** A batch that is made again and again: encoded once, but for the strings that differ from time to time. */
export class RepeatedBatch {
  readonly calls: readonly Call[]
  /** Its size is without those strings. */
  readonly layout: Layout
  /** As it was written last. */
  private bytes: Buffer
  /** Where the strings that differ have the text, and its length, when one like it can be put there. */
  private written: { readonly length: number; readonly places: readonly Place[] } | undefined
  private readonly gaps: readonly Gap[]
  private readonly target: Target

  /** @param memory to encode it in. @throws as {@link encodeWithGaps} does. */
  private constructor(calls: readonly Call[], memory: Buffer, target: Target) {
    const { layout, gaps } = encodeWithGaps(calls, memory, target)
    this.calls = calls
    this.layout = layout
    this.gaps = gaps
    this.target = target
    this.bytes = Buffer.from(memory.subarray(0, layout.size))
  }

  /** The batch of `calls`, behind those of `prelude`; as it was encoded for the same array before. */
  static of(calls: readonly Call[], prelude: readonly Call[], memory: Buffer, target: Target): RepeatedBatch {
    const known = batches.get(calls)
    const isSame = known?.prelude === prelude && known.batch.target.outlive === target.outlive
    if (known !== undefined && isSame) return known.batch
    const all = prelude.length === 0 ? calls : [...prelude, ...calls]
    const batch = new RepeatedBatch(all, memory, target)
    batches.set(calls, { prelude, batch })
    return batch
  }

  /** Writes the message with `text` for what differs. @returns its size. */
  write(memory: Buffer, text: string | undefined): number {
    memory.set(this.bytes)
    if (this.gaps.length === 0) return this.bytes.length
    const { written } = this
    if (text !== undefined && text.length === written?.length && isAscii(text)) {
      for (const { at, length } of written.places) writeAscii(memory, at, text, length)
      return this.bytes.length
    }
    const target = { ...this.target, text }
    const size = fillGaps(memory, this.layout.size, this.gaps, target)
    const places = text === undefined ? undefined : placesOfText(memory, this.gaps, target)
    if (text === undefined || places === undefined) return size
    this.bytes = Buffer.from(memory.subarray(0, size))
    this.written = { length: text.length, places }
    return size
  }
}

/** Byte by byte, which is the quickest for few. */
function writeAscii(memory: Buffer, at: number, text: string, length: number): void {
  for (let i = 0; i < length; i++) memory[at + i] = text.charCodeAt(i)
}

const batches = new WeakMap<readonly Call[], { readonly prelude: readonly Call[]; readonly batch: RepeatedBatch }>()
