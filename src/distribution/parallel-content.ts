import { Readable } from 'node:stream'
import { collect } from '../content/verify.ts'
import { joinSignals } from '../internal/join-signals.ts'
import { type Bytes, toBytes } from '../internal/units.ts'
import { type ContentSource, openContent, openRange } from './content-stream.ts'
import { toCount } from './count.ts'

/** How large blobs are pulled. */
export interface RangeOptions {
  /**
   * Parts of one blob that are requested at the same time, 1 to 16; default 1. More help where one
   * connection is slower than the line, as with object stores, and cost `parallel` times `size` of memory.
   */
  readonly parallel?: number | undefined
  /** Bytes of a part; default 8 MiB. Blobs smaller than two parts are pulled in one. */
  readonly size?: Bytes | undefined
}

/** {@link RangeOptions} with every default filled in. */
export interface RangePolicy {
  readonly parallel: number
  readonly size: number
}

/** Fills in the defaults. @throws InvalidArgumentError */
export function rangePolicy({ parallel = 1, size = '8m' }: RangeOptions = {}): RangePolicy {
  return {
    parallel: toCount(parallel, 'ranges.parallel', 16),
    size: toCount(toBytes(size, 'ranges.size'), 'ranges.size', 2 ** 30),
  }
}

/**
 * Opens content of `total` bytes as parts that are requested at the same time and given out in order, so
 * that it can be hashed as it comes. Each part has a connection of its own, made by `connect`, and
 * survives drops by itself. Where the server does not know ranges, all of it comes by one connection.
 */
export async function openParallel(
  connect: () => ContentSource,
  total: number,
  offset: number,
  { parallel, size }: RangePolicy,
  signal: AbortSignal | undefined,
): Promise<Readable> {
  if (parallel === 1 || total - offset < 2 * size) return openContent(connect(), offset, signal)
  const controller = new AbortController()
  const joined = joinSignals(signal, controller.signal)
  const open = (from: number): Promise<{ readonly stream: Readable; readonly ranged: boolean }> =>
    openRange(connect(), from, Math.min(from + size, total), joined)
  const first = await open(offset)
  if (!first.ranged) {
    first.stream.destroy()
    return openContent(connect(), offset, signal)
  }
  const part = async (from: number): Promise<Uint8Array> => collect((await open(from)).stream)
  const all = parts(collect(first.stream), part, { from: offset + size, total, parallel, size })
  const stream = Readable.from(all, { objectMode: false, highWaterMark: 256 * 1024 })
  stream.once('close', () => controller.abort())
  // It may fail before its reader has begun to listen; they learn of it when they read.
  stream.on('error', () => {})
  return stream
}

async function* parts(
  first: Promise<Uint8Array>,
  fetchPart: (from: number) => Promise<Uint8Array>,
  { from, total, parallel, size }: RangePolicy & { readonly from: number; readonly total: number },
): AsyncGenerator<Uint8Array, void, undefined> {
  const waiting: Promise<Uint8Array>[] = []
  let next = from
  const add = (part: Promise<Uint8Array>): void => {
    // Whoever waits for it learns of its failure; until then nobody listens.
    part.catch(() => {})
    waiting.push(part)
  }
  const fill = (): void => {
    for (; waiting.length < parallel && next < total; next += size) add(fetchPart(next))
  }
  add(first)
  for (fill(); waiting.length > 0; fill()) {
    const part = await waiting.shift()
    if (part !== undefined) yield part
  }
}
