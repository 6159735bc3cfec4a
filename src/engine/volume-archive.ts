import { Readable } from 'node:stream'
import { ConflictError } from '../errors.ts'
import { quote } from '../internal/text.ts'
import { ownership } from '../layer/apply/target.ts'
import { decompress } from '../layer/decompress.ts'
import { EntryMaker } from '../layer/diff/entries.ts'
import { withContent, writeLayer } from '../layer/diff/layer-stream.ts'
import { openTree } from '../layer/diff/open-tree.ts'
import type { TreeReader } from '../layer/diff/tree-reader.ts'
import type { PlannedEntry } from '../layer/diff/upper.ts'
import { walkTree } from '../layer/diff/walk.ts'
import { extractArchive } from '../layer/extract/extract.ts'
import type { Store, Volume } from '../store/index.ts'
import { openShared } from './container-root.ts'

/** How a volume is made of an archive. */
export interface ImportVolumeOptions {
  /** Of the volume, if it is made. */
  readonly labels?: Readonly<Record<string, string>> | undefined
  readonly signal?: AbortSignal | undefined
}

/** The files of a volume as a tar archive, with all attributes. */
export async function exportVolume(store: Store, name: string): Promise<Readable> {
  const { path } = await store.volumes.inspect(name)
  return Readable.from(archive(path), { objectMode: false })
}

async function* archive(path: string): AsyncGenerator<Buffer, void, undefined> {
  // Not before it is read: nobody closes what a stream holds that is destroyed before.
  const reader = await openShared(path)
  try {
    yield* writeLayer(withContent(reader, entriesOf(reader)))
  } finally {
    await reader.close()
  }
}

/** Every name is a name here: a volume may hold the layers of another engine. Sockets are left out. */
async function* entriesOf(reader: TreeReader): AsyncGenerator<PlannedEntry, void, undefined> {
  const maker = new EntryMaker({})
  for await (const node of walkTree(reader)) {
    const entry = maker.entry(node)
    if (entry !== undefined) yield entry.type === 'file' && entry.size > 0 ? { entry, node } : { entry }
  }
}

/** Fills a volume, which is made where it is missing, with what is in a tar archive; all of it or nothing. */
export async function importVolume(
  store: Store,
  name: string,
  archive: Readable | Uint8Array,
  { labels, signal }: ImportVolumeOptions,
): Promise<Volume> {
  const source = archive instanceof Readable ? archive : Readable.from([Buffer.from(archive)], { objectMode: false })
  source.on('error', () => {}) // one that comes before it is read; reading throws it
  try {
    await store.volumes.create(name, { labels, signal })
    const filled = await store.volumes.fill(name, '', (directory) => extract(source, directory, signal), signal)
    if (!filled) {
      throw new ConflictError(name, `volume ${quote(name)} is not empty`, { hint: 'Import into one that is new.' })
    }
    return await store.volumes.inspect(name)
  } finally {
    source.destroy()
  }
}

async function extract(source: Readable, directory: string, signal: AbortSignal | undefined): Promise<void> {
  const { ids, singleOwner } = await ownership()
  const tree = await openTree(directory)
  try {
    await extractArchive(decompress(source), tree.process, {
      directory: '',
      includingItself: true,
      userNamespace: ids !== undefined,
      singleOwner,
      ids,
      signal,
    })
  } finally {
    await tree.close()
  }
}
