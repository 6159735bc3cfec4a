import { randomUUID } from 'node:crypto'
import { mkdir, open, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { LimitError, NotFoundError } from '../errors.ts'
import { parseJsonInt64, stringifyJsonInt64 } from '../internal/json-int64.ts'
import type { Spec } from './spec.ts'
import { validateSpec } from './validate.ts'

/** Largest config.json that is read, in bytes. */
export const maxSpecSize: number = 16 * 1024 * 1024

/**
 * Writes `config.json` into a bundle's directory, which is made when it is missing. The file appears
 * at once and whole, or not at all. Directory and file are for their owner only: a bundle can hold
 * secrets (the environment), and setuid programs of others (the root filesystem).
 */
export async function writeBundle(directory: string, spec: Spec): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const temporary = join(directory, `.config.json.${randomUUID()}`)
  try {
    const file = await open(temporary, 'wx', 0o600)
    try {
      await file.writeFile(`${stringifyJsonInt64(spec, 2)}\n`)
    } finally {
      await file.close()
    }
    await rename(temporary, join(directory, 'config.json'))
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}

/**
 * Reads and validates the config.json of a bundle.
 * @throws NotFoundError when there is none; SpecError with the faults; LimitError above 16 MiB
 */
export async function readBundle(directory: string): Promise<Spec> {
  const path = join(directory, 'config.json')
  return validateSpec(parseJsonInt64(await readBounded(path), path))
}

async function readBounded(path: string): Promise<Uint8Array> {
  const file = await open(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') throw new NotFoundError(path, `there is no bundle: ${path} not found`, { cause })
    throw cause
  })
  try {
    // Counted while reading: the file may be something else by the time it is read, or report no size.
    const chunks: Buffer[] = []
    let total = 0
    for await (const chunk of file.createReadStream({ autoClose: false })) {
      total += chunk.length
      if (total > maxSpecSize) throw new LimitError(path, maxSpecSize, 'bytes')
      chunks.push(chunk)
    }
    return Buffer.concat(chunks, total)
  } finally {
    await file.close()
  }
}
