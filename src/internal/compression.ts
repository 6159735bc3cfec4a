import { pipeline } from 'node:stream'
import * as zlib from 'node:zlib'
import { chunkSize } from './feeder.ts'
import { gunzipUnchecked } from './gzip.ts'
import { unzstd } from './zstd.ts'

/** How bytes are compressed. */
export type Compression = 'gzip' | 'zstd' | 'none'

/**
 * Tells the compression by the first bytes, not by the media type or the name, as peers do: registries hold
 * layers whose type lies. Four bytes are enough; fewer are not compressed, nor is an empty blob.
 */
export function detectCompression(head: Uint8Array): Compression {
  if (head[0] === 0x1f && head[1] === 0x8b) return 'gzip'
  if (head.length < 4) return 'none'
  const magic = Buffer.from(head.buffer, head.byteOffset, 4).readUInt32LE()
  const isSkippableFrame = (magic & 0xfffffff0) >>> 0 === 0x184d2a50
  return magic === 0xfd2fb528 || isSkippableFrame ? 'zstd' : 'none'
}

/** How something is decompressed. */
export interface DecodeOptions {
  /** Told of the compression before the first byte comes. */
  readonly onDetected?: (compression: Compression) => void
  /** Whether a digest of what comes out is checked, so that gzip's own check sums are not. Default false. */
  readonly digested?: boolean | undefined
}

/**
 * What `input` is without its compression: gzip of any number of members, zstd of any number of frames, or
 * as it is.
 * @throws UnsupportedError for zstd on a Node without it. Damaged data throws zlib's error.
 */
export async function* decoded(
  input: AsyncGenerator<Buffer, void, undefined>,
  { onDetected, digested = false }: DecodeOptions = {},
): AsyncGenerator<Buffer, void, undefined> {
  const head = await readHead(input)
  const compression = detectCompression(head)
  onDetected?.(compression)
  const all = chain(head, input)
  if (compression === 'none') {
    yield* all
  } else if (compression === 'gzip' && digested) {
    yield* gunzipUnchecked(all)
  } else if (compression === 'gzip') {
    const decoder = zlib.createGunzip({ chunkSize })
    // The callback is there so that an error is not unhandled: the iteration below throws it.
    pipeline(all, decoder, () => {})
    yield* decoder as AsyncIterable<Buffer>
  } else {
    yield* unzstd(all)
  }
}

/** Whether an error of zlib is about the data. */
export function isDamage(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'code' in error && /^(Z_|ZSTD_)/.test(String(error.code))
}

async function readHead(input: AsyncGenerator<Buffer, void, undefined>): Promise<Buffer> {
  let head: Buffer = Buffer.alloc(0)
  while (head.length < 4) {
    const { value, done } = await input.next()
    if (done === true || value === undefined) break
    head = head.length === 0 ? value : Buffer.concat([head, value])
  }
  return head
}

async function* chain(head: Buffer, rest: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
  if (head.length > 0) yield head
  yield* rest
}
