import { writeSync } from 'node:fs'

/**
 * Writes all of a text to a descriptor. Not through Node's streams: they would make a pipe non-blocking, and the
 * container has the same one.
 */
export function writeTo(fd: number, text: string): void {
  let rest: Uint8Array = Buffer.from(text)
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(fd, rest))
    } catch (error) {
      // Somebody else made it non-blocking, and it is full.
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5)
    }
  }
}

/** Writes a value as JSON, as people and programs read it. */
export function writeJson(value: unknown): void {
  writeTo(1, `${JSON.stringify(value, undefined, 2)}\n`)
}

/** Writes rows in columns as wide as their longest entry. */
export function writeTable(rows: readonly (readonly string[])[]): void {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const lines = rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd((widths[column] ?? 0) + 3))
      .join('')
      .trimEnd(),
  )
  writeTo(1, `${lines.join('\n')}\n`)
}
