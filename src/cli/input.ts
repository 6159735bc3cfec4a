import { closeSync, openSync, readSync } from 'node:fs'
import { LimitError } from '../index.ts'

/** Largest document that is read, in bytes. */
const maxSize = 16 << 20

/** Reads a document: a file, or with `-` standard input. @throws LimitError above 16 MiB. */
export function readDocument(path: string): string {
  const fd = path === '-' ? 0 : openSync(path, 'r')
  try {
    const chunks: Buffer[] = []
    for (let total = 0; ; ) {
      const chunk = Buffer.alloc(64 << 10)
      const size = readSync(fd, chunk)
      if (size === 0) return Buffer.concat(chunks).toString()
      total += size
      if (total > maxSize) throw new LimitError(path, maxSize, 'bytes')
      chunks.push(chunk.subarray(0, size))
    }
  } finally {
    if (fd !== 0) closeSync(fd)
  }
}
