import { LimitError } from '../../errors.ts'
import type { CompleteLimits } from '../limits.ts'
import type { Timestamp, Xattr } from '../tar/entry.ts'
import type { Batches } from './batches.ts'
import { type ByteString, bytesToText, nameError } from './names.ts'
import type { LayerPlanner } from './planner.ts'
import type { LeafNode, Node } from './tree.ts'

/** What a layer below has under a name: anything but a directory. */
export interface LowerFile {
  readonly type: 'file' | 'symlink' | 'character' | 'block' | 'fifo'
  readonly uid: number
  readonly gid: number
  /** Permission bits. */
  readonly mode: number
  readonly mtime: Timestamp
  /** As they are on disk. */
  readonly xattrs: readonly Xattr[]
  /** Bytes of a file; else 0. */
  readonly size: number
  /** Where a symlink points; else empty. */
  readonly target: Buffer
  /** Of a device, as `mknod` takes it; else 0. */
  readonly device: number
  /** The content of a file, exactly `size` bytes; to be read to the end. */
  content(): AsyncIterable<Buffer>
}

/** Names of this layer that are to be one file with a name of the layers below. */
export interface LowerLink {
  /** The name in the layers below. */
  readonly path: ByteString
  readonly nodes: readonly LeafNode[]
  /** Name of the first entry that asks for it. */
  readonly entry: ByteString
}

interface Wanted {
  readonly path: ByteString
  readonly entry: ByteString
}

/** The names of a layer that are hard links to files of the layers below, while its entries are read. */
export class LowerLinks {
  readonly #wanted = new Map<Node, Wanted>()

  add(node: LeafNode, path: ByteString, entry: ByteString): void {
    this.#wanted.set(node, { path, entry })
  }

  /** A link to one of the names; whether it is one. */
  addSame(node: LeafNode, target: Node): boolean {
    const wanted = this.#wanted.get(target)
    if (wanted !== undefined) this.#wanted.set(node, wanted)
    return wanted !== undefined
  }

  /** The name goes away; whether it was one of these, of which nothing is on disk yet. */
  forget(node: Node): boolean {
    return this.#wanted.delete(node)
  }

  /** By what they are links to. */
  all(): readonly LowerLink[] {
    const links = new Map<ByteString, { path: ByteString; entry: ByteString; nodes: LeafNode[] }>()
    for (const [node, { path, entry }] of this.#wanted) {
      const link = links.get(path) ?? { path, entry, nodes: [] }
      link.nodes.push(node as LeafNode)
      links.set(path, link)
    }
    return [...links.values()]
  }
}

/**
 * Copies the files of the layers below that this layer has hard links to. No peer can (image-spec, layer.md: such links "may
 * fail" to be extracted).
 * @throws LayerError for a link to what is not there. @throws LimitError beyond the limit on content.
 */
export async function copyLinked(
  planner: LayerPlanner,
  batches: Batches,
  limits: CompleteLimits,
  lower: ((path: Buffer) => Promise<LowerFile | undefined>) | undefined,
): Promise<void> {
  let copied = 0
  for (const link of planner.lowerLinks()) {
    const file = await lower?.(Buffer.from(link.path, 'latin1'))
    if (file === undefined) {
      const shown = JSON.stringify(bytesToText(link.path))
      throw nameError(link.entry, `it is a hard link to ${shown}, which neither this layer nor those below hold`)
    }
    copied += file.size
    if (copied > limits.maxContent) {
      throw new LimitError('files that the layer links to in those below', limits.maxContent, 'bytes')
    }
    planner.beginLower(link, file)
    if (file.size > 0) {
      for await (const chunk of file.content()) {
        planner.data(chunk)
        if (batches.isFull) await batches.room()
      }
    }
    planner.entryEnd()
  }
}
