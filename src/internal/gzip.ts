import * as zlib from 'node:zlib'
import { chunkSize, Feeder } from './feeder.ts'

/** Bytes behind each member: its check sum and its size. */
const trailerSize = 8

/** Flags of a member's header. */
const flag = { headerSum: 2, extra: 4, name: 8, comment: 16, reserved: 0xe0 } as const

/**
 * Decompresses gzip (RFC 1952) of any number of members, and with zeros behind it, but does not look at the check sums of the
 * first member: for content whose digest is checked, where they take a seventh of the time for nothing. Further ones are left
 * to zlib, which needs no new decompressor for each: eStargz has a member for each file. Errors are as zlib's are.
 */
export async function* gunzipUnchecked(
  input: AsyncGenerator<Buffer, void, undefined>,
): AsyncGenerator<Buffer, void, undefined> {
  const feeder = new Feeder(input)
  await skipHeader(feeder)
  yield* feeder.through(zlib.createInflateRaw({ chunkSize }))
  await skip(feeder, trailerSize)
  if (((await feeder.peek()) ?? 0) !== 0) yield* feeder.through(zlib.createGunzip({ chunkSize }))
  // Padding is read to its end, as whoever counts the input expects.
  while ((await feeder.take(chunkSize)) !== undefined);
}

async function skipHeader(feeder: Feeder): Promise<void> {
  const isGzip = (await byteOf(feeder)) === 0x1f && (await byteOf(feeder)) === 0x8b
  const isDeflated = isGzip && (await byteOf(feeder)) === 8
  if (!isDeflated) throw damage('Z_DATA_ERROR', 'incorrect header check')
  const flags = await byteOf(feeder)
  if ((flags & flag.reserved) !== 0) throw damage('Z_DATA_ERROR', 'unknown header flags set')
  // Its time, how it was compressed, and where.
  await skip(feeder, 6)
  if ((flags & flag.extra) !== 0) await skip(feeder, (await byteOf(feeder)) + (await byteOf(feeder)) * 256)
  if ((flags & flag.name) !== 0) await skipText(feeder)
  if ((flags & flag.comment) !== 0) await skipText(feeder)
  if ((flags & flag.headerSum) !== 0) await skip(feeder, 2)
}

async function skipText(feeder: Feeder): Promise<void> {
  if (!(await feeder.skipText())) throw cutShort()
}

async function byteOf(feeder: Feeder): Promise<number> {
  return (await taken(feeder, 1))[0] as number
}

async function skip(feeder: Feeder, size: number): Promise<void> {
  for (let left = size; left > 0; ) left -= (await taken(feeder, left)).length
}

async function taken(feeder: Feeder, size: number): Promise<Buffer> {
  const bytes = await feeder.take(size)
  if (bytes === undefined) throw cutShort()
  return bytes
}

function cutShort(): Error {
  return damage('Z_BUF_ERROR', 'unexpected end of file')
}

function damage(code: string, message: string): Error {
  return Object.assign(new Error(message), { code })
}
