import { closeSync, fsyncSync, openSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Writes a document into a directory, or puts it in the place of another one: in one step, and on the disk for good. */
export function writeDurably(directory: string, name: string, document: unknown): void {
  const temporary = join(directory, `.${name}`)
  const fd = openSync(temporary, 'w', 0o600)
  try {
    writeFileSync(fd, `${JSON.stringify(document)}\n`)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
  renameSync(temporary, join(directory, name))
}
