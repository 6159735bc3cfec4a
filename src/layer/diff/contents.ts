import { type Call, type Out, out } from '../../linux/call.ts'
import { close, dup3, O } from '../../linux/calls/files.ts'
import { syscallError } from '../../linux/errno.ts'
import { placeOf } from '../apply/calls.ts'
import { openFile, readFrom, statOfFile } from './tree-calls.ts'
import { decodeStatx, statxSize, type TreeNode } from './tree-node.ts'
import { succeeded, type Tree } from './tree-reader.ts'

/** Files up to this size are read many at a time. Bytes. */
export const smallFile: number = 64 * 1024
/** Bytes that are read at a time of small files, and most entries that wait for it. */
export const windowSize: number = 512 * 1024
export const windowCount = 400
/** Bytes of a larger file that are read at a time. */
const pieceSize = 256 * 1024
/** Descriptor of the larger file. */
const fileDescriptor = 201

/**
 * The content of small files, each of the size that its node says: what has grown since is cut, what has
 * shrunk is filled with zeros, as tar does. Without those that have gone away, or become something else.
 */
export async function readSmallFiles(reader: Tree, nodes: readonly TreeNode[]): Promise<ReadonlyMap<TreeNode, Buffer>> {
  const contents = new Map<TreeNode, Buffer>()
  if (nodes.length === 0) return contents
  const asked = nodes.map((node) => {
    const place = placeOf(node.path)
    const [stat, content] = [out(statxSize), out(node.size)]
    const opened = openFile(node.source ?? node.path)
    const read = readFrom(place, opened, content)
    return {
      node,
      stat,
      content,
      opened,
      read,
      calls: [opened, statOfFile(place, opened, stat), read, closeOf(opened)],
    }
  })
  const results = await reader.process.run(asked.flatMap(({ calls }) => calls))
  for (const { node, stat, content, opened, read } of asked) {
    if (!succeeded(opened, results.value(opened))) continue
    const now = decodeStatx(results.bytes(stat))
    if (now.type !== 'file' || now.inode !== node.inode) continue
    if (results.value(read) < 0) throw syscallError(read, -results.value(read))
    contents.set(node, Buffer.from(results.bytes(content)))
  }
  return contents
}

/**
 * Opens one larger file; undefined when it has gone away. Its content is to be read to the end, before
 * anything else is: piece by piece, with the size that the node says.
 */
export async function openLargeFile(
  reader: Tree,
  node: TreeNode,
): Promise<AsyncGenerator<Buffer, void, undefined> | undefined> {
  const stat = out(statxSize)
  const opened = openFile(node.source ?? node.path)
  const results = await reader.process.run([
    opened,
    statOfFile(placeOf(node.path), opened, stat),
    { ...dup3(opened, fileDescriptor, O.CLOEXEC), tolerate: 'any' },
    closeOf(opened),
  ])
  if (!succeeded(opened, results.value(opened))) return undefined
  const now = decodeStatx(results.bytes(stat))
  if (now.type === 'file' && now.inode === node.inode) return pieces(reader, node)
  await reader.process.run([close(fileDescriptor)])
  return undefined
}

async function* pieces(reader: Tree, node: TreeNode): AsyncGenerator<Buffer, void, undefined> {
  const place = placeOf(node.path)
  let left = node.size
  /** The next piece is read while this one is used. */
  let next = readPiece(reader, place, left)
  try {
    while (left > 0) {
      const piece = await next
      left -= piece.length
      if (piece.length === 0) {
        // It has shrunk: what was announced must come.
        for (; left > 0; left -= pieceSize) yield Buffer.alloc(Math.min(left, pieceSize))
        break
      }
      next = readPiece(reader, place, left)
      yield piece
    }
  } finally {
    await next.catch(() => {})
    await reader.process.run([close(fileDescriptor)]).catch(() => {})
  }
}

async function readPiece(reader: Tree, place: ReturnType<typeof placeOf>, left: number): Promise<Buffer> {
  if (left <= 0) return Buffer.alloc(0)
  const content: Out = out(Math.min(left, pieceSize))
  const read = readFrom(place, fileDescriptor, content)
  const results = await reader.process.run([read])
  const size = results.value(read)
  if (size < 0) throw syscallError(read, -size)
  return results.bytes(content).subarray(0, size)
}

/** The file may not have been opened. */
function closeOf(opened: Call): Call {
  return { ...close(opened), tolerate: 'any' }
}
