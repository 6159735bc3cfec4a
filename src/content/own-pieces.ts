import type { Readable } from 'node:stream'

const marked = new WeakSet<Readable>()

/**
 * Says that what a stream gives is its reader's alone: nobody else holds a piece, or memory of it, so that the reader may
 * free it.
 */
export function markOwnPieces(stream: Readable): void {
  marked.add(stream)
}

/** Whether {@link markOwnPieces} has been said of a stream. */
export function hasOwnPieces(stream: Readable): boolean {
  return marked.has(stream)
}
