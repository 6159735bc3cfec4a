import type { LayerLimits } from '../../../src/layer/limits.ts'
import type { TarEntry } from '../../../src/layer/tar/entry.ts'
import { TarReader } from '../../../src/layer/tar/reader.ts'

/** An entry with its content, holes filled with zeros. */
export interface ReadEntry extends TarEntry {
  readonly content: Buffer
  readonly holes: readonly number[]
}

/** Reads an archive that comes in chunks of `chunkSize` bytes. */
export function read(archive: Buffer, chunkSize: number = archive.length, limits?: LayerLimits): ReadEntry[] {
  const entries: ReadEntry[] = []
  let current: { entry: TarEntry; pieces: Buffer[]; holes: number[] } | undefined
  const reader = new TarReader(
    {
      entry(entry) {
        current = { entry, pieces: [], holes: [] }
      },
      data(chunk) {
        current?.pieces.push(Buffer.from(chunk))
      },
      hole(length) {
        current?.holes.push(length)
        current?.pieces.push(Buffer.alloc(length))
      },
      entryEnd() {
        if (current === undefined) throw new Error('an entry ends that has not begun')
        entries.push({ ...current.entry, content: Buffer.concat(current.pieces), holes: current.holes })
        current = undefined
      },
    },
    limits,
  )
  for (let at = 0; at < archive.length; at += chunkSize) reader.write(archive.subarray(at, at + chunkSize))
  reader.end()
  return entries
}

/** The one entry of an archive. */
export function readOne(archive: Buffer): ReadEntry {
  const [first, ...more] = read(archive)
  if (first === undefined || more.length > 0) throw new Error(`expected one entry, not ${more.length + 1}`)
  return first
}
