import type { TarEntry } from '../../../src/layer/tar/entry.ts'
import { TarReader } from '../../../src/layer/tar/reader.ts'
import { TarWriter } from '../../../src/layer/tar/writer.ts'

/** An entry: an empty file that belongs to root, but for what is given. */
export function newEntry(entry: Partial<TarEntry> = {}): TarEntry {
  return {
    type: 'file',
    name: Buffer.from('file'),
    linkName: Buffer.alloc(0),
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: 0,
    mtime: { seconds: 0, nanoseconds: 0 },
    deviceMajor: 0,
    deviceMinor: 0,
    xattrs: [],
    ...entry,
  }
}

/** Writes entries, each perhaps with content. */
export function write(entries: readonly (TarEntry | readonly [entry: TarEntry, content: string])[]): Buffer {
  const chunks: Buffer[] = []
  const writer = new TarWriter((chunk) => chunks.push(chunk))
  for (const each of entries) {
    const [entry, content] = Array.isArray(each) ? (each as readonly [TarEntry, string]) : [each as TarEntry, '']
    const bytes = Buffer.from(content)
    writer.entry({ ...entry, size: bytes.length })
    writer.data(bytes)
    writer.entryEnd()
  }
  writer.end()
  return Buffer.concat(chunks)
}

/** What {@link TarWriter} makes of what {@link TarReader} reads. */
export function rewrite(archive: Buffer): Buffer {
  const chunks: Buffer[] = []
  const writer = new TarWriter((chunk) => chunks.push(Buffer.from(chunk)))
  const reader = new TarReader(writer)
  reader.write(archive)
  reader.end()
  writer.end()
  return Buffer.concat(chunks)
}
