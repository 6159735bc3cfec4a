import { createHash } from 'node:crypto'
import { PassThrough, Readable } from 'node:stream'
import { loadArchive } from '../../../src/content/archive/load.ts'
import { writeArchive } from '../../../src/content/archive/write.ts'
import { MemoryStore } from '../../../src/content/memory.ts'
import type { Descriptor } from '../../../src/image/descriptor.ts'
import { type TestEntry, tar } from '../../layer/support/tar.ts'

/** Hex digits of the sha256 of bytes. */
export function hex(bytes: string | Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** A layer that is a tar archive of one file. */
export function layer(content: string | Buffer): Buffer {
  return tar({ name: 'file', content })
}

/** The config of an image with these layers, which are not compressed. */
export function config(...layers: readonly Buffer[]): string {
  const diffIds = layers.map((each) => `sha256:${hex(each)}`)
  return JSON.stringify({ os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: diffIds } })
}

/** The entry with a list of images, as `docker save` writes it. */
export function dockerManifest(images: readonly object[]): TestEntry {
  return { name: 'manifest.json', content: JSON.stringify(images) }
}

/** A stream of bytes in pieces of odd sizes. */
export function stream(bytes: Uint8Array, size = 1000): Readable {
  const pieces: Uint8Array[] = []
  for (let at = 0; at < bytes.byteLength; at += size) pieces.push(bytes.subarray(at, at + size))
  return Readable.from(pieces, { objectMode: false })
}

/** Loads an archive into memory, as a stream. */
export async function load(
  bytes: Uint8Array,
  options?: Parameters<typeof loadArchive>[2],
): Promise<{ readonly store: MemoryStore; readonly images: Awaited<ReturnType<typeof loadArchive>> }> {
  const store = new MemoryStore()
  return { store, images: await loadArchive(stream(bytes), store, options) }
}

/** The archive of images as bytes. */
export async function saved(
  images: Parameters<typeof writeArchive>[1],
  options: Parameters<typeof writeArchive>[2] = {},
): Promise<{ readonly bytes: Buffer; readonly written: readonly Descriptor[] }> {
  const output = new PassThrough()
  const chunks: Buffer[] = []
  output.on('data', (chunk: Buffer) => chunks.push(chunk))
  const written = await writeArchive(output, images, options)
  return { bytes: Buffer.concat(chunks), written }
}
