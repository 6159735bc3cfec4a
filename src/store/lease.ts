import { randomUUID } from 'node:crypto'
import { appendFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Digest } from '../image/digest.ts'
import { fileError } from '../internal/file-error.ts'
import { type Lock, lockFile } from './lock.ts'

/**
 * Keeps content that no reference names yet: while a lease is held, what it names is not collected as garbage, in
 * any process. It ends with the process that has it.
 */
export interface Lease extends AsyncDisposable {
  readonly id: string
  /** Keeps this content too, from now on. */
  add(...digests: readonly Digest[]): Promise<void>
  /** Idempotent. */
  release(): Promise<void>
}

/** Makes a lease: a file that lists digests, one a line, and is locked by its owner. */
export async function createLease(folder: string, signal?: AbortSignal): Promise<Lease> {
  const id = randomUUID()
  const path = join(folder, `${id}.lock`)
  const lock: Lock = await lockFile(path, signal)
  const release = async (): Promise<void> => lock.release({ remove: true })
  return {
    id,
    async add(...digests) {
      try {
        // One write, so that lines of several callers do not mix.
        await appendFile(path, digests.map((digest) => `${digest}\n`).join(''), { mode: 0o600 })
      } catch (error) {
        throw fileError(error, 'keeping content', id)
      }
    },
    release,
    [Symbol.asyncDispose]: release,
  }
}
