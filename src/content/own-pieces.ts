import type { Readable } from 'node:stream'
import { freeMemory } from '../internal/free-memory.ts'

const marked = new WeakSet<Readable>()

/**
 * Says that what a stream gives is its reader's alone: nobody else holds a piece, or memory of it, so that the reader may
 * free it. Returns the stream.
 */
export function markOwnPieces<S extends Readable>(stream: S): S {
  marked.add(stream)
  return stream
}

/** Whether {@link markOwnPieces} has been said of a stream. */
export function hasOwnPieces(stream: Readable): boolean {
  return marked.has(stream)
}

/** Size from which on it is worth freeing memory before the garbage collector does, in bytes. */
const largePiece = 64 * 1024

/** Frees a piece of a stream that {@link hasOwnPieces}, when it is large; a read may not have filled the end of its memory. */
export function freePiece(piece: Uint8Array): void {
  if (piece.byteLength >= largePiece && piece.byteOffset === 0) freeMemory(piece)
}
