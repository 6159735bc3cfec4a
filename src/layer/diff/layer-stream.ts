import { LayerError } from '../../errors.ts'
import { bytesToText } from '../apply/names.ts'
import { displayName, type TarEntry } from '../tar/entry.ts'
import { TarWriter } from '../tar/writer.ts'
import { openLargeFile, readSmallFiles, smallFile, windowCount, windowSize } from './contents.ts'
import type { Tree } from './tree-reader.ts'
import type { PlannedEntry, UpperOptions } from './upper.ts'

/** An entry with its content. */
export interface LayerItem {
  readonly entry: TarEntry
  readonly content?: AsyncIterable<Buffer> | readonly Buffer[]
}

/** Bytes of the archive that are handed on at a time. */
const pieceSize = 256 * 1024

/** Reads the content of entries, that of small files many at a time. */
export async function* withContent(
  reader: Tree,
  planned: AsyncIterable<PlannedEntry>,
  onWarning?: UpperOptions['onWarning'],
): AsyncGenerator<LayerItem, void, undefined> {
  let window: PlannedEntry[] = []
  let size = 0
  for await (const each of planned) {
    window.push(each)
    if (each.node === undefined && window.length < windowCount) continue
    const isLarge = each.entry.size > smallFile
    // What is asked for it takes its room as well.
    size += each.entry.name.length + 1024 + (isLarge ? 0 : each.entry.size)
    if (!isLarge && size < windowSize && window.length < windowCount) continue
    yield* read(reader, window, onWarning)
    window = []
    size = 0
  }
  yield* read(reader, window, onWarning)
}

async function* read(
  reader: Tree,
  window: readonly PlannedEntry[],
  onWarning: UpperOptions['onWarning'],
): AsyncGenerator<LayerItem, void, undefined> {
  const small = window.flatMap(({ node }) => (node !== undefined && node.size <= smallFile ? [node] : []))
  const contents = await readSmallFiles(reader, small)
  for (const { entry, node } of window) {
    if (node === undefined) {
      yield { entry }
      continue
    }
    const content = contents.get(node)
    const found = content === undefined ? await openIfLarge(reader, node) : [content]
    if (found !== undefined) yield { entry, content: found }
    else if (node.links > 1) throw new LayerError(displayName(entry.name), 'it went away while it was read')
    else onWarning?.({ path: `/${bytesToText(node.path)}`, message: 'it went away while it was read' })
  }
}

async function openIfLarge(
  reader: Tree,
  node: NonNullable<PlannedEntry['node']>,
): Promise<AsyncIterable<Buffer> | undefined> {
  return node.size > smallFile ? openLargeFile(reader, node) : undefined
}

/** The tar archive of entries, in pieces. */
export async function* writeLayer(items: AsyncIterable<LayerItem>): AsyncGenerator<Buffer, void, undefined> {
  let pieces: Buffer[] = []
  let size = 0
  const writer = new TarWriter((piece) => {
    pieces.push(piece)
    size += piece.length
  })
  const take = (): Buffer => {
    const whole = pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces, size)
    pieces = []
    size = 0
    return whole
  }
  for await (const { entry, content = [] } of items) {
    writer.entry(entry)
    for await (const chunk of content) {
      writer.data(chunk)
      if (size >= pieceSize) yield take()
    }
    writer.entryEnd()
    if (size >= pieceSize) yield take()
  }
  writer.end()
  yield take()
}
