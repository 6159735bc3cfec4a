import { randomUUID } from 'node:crypto'
import { appendFile, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import type { ContentStore, Receiver } from '../content/interfaces.ts'
import { ConflictError } from '../errors.ts'
import { type Digest, isDigest } from '../image/digest.ts'
import { fileError, hasCode } from '../internal/file-error.ts'
import type { Gate } from './gate.ts'
import { type Lock, lockFile, tryLock } from './lock.ts'

/**
 * Keeps content that no reference names yet: while a lease is held, what it names is not collected as garbage, in
 * any process. It ends with the process that has it.
 */
export interface Lease extends AsyncDisposable {
  readonly id: string
  /**
   * The store, with a lease on whatever is looked for or written through it: a copy to this is safe from
   * collections, also where it finds content that is there already.
   */
  readonly content: ContentStore & Receiver
  /** Keeps this content too, from now on: blobs by digest, with what a manifest consists of; layers by ChainID. */
  add(...digests: readonly Digest[]): Promise<void>
  /** Idempotent. */
  release(): Promise<void>
}

/** What leases are made in. */
export interface LeaseContext {
  readonly folder: string
  readonly gate: Gate
  readonly content: ContentStore & Receiver
}

const suffix = '.lock'

/** Makes a lease: a file that lists digests, one a line, and is locked by its owner. */
export async function createLease({ folder, gate, content }: LeaseContext, signal?: AbortSignal): Promise<Lease> {
  const id = randomUUID()
  const path = join(folder, `${id}${suffix}`)
  // Nothing is collected where there are no such locks.
  const lock: Lock | undefined = process.platform === 'linux' ? await lockFile(path, signal) : undefined
  const kept = new Set<Digest>()
  let isReleased = false
  const add = async (...digests: readonly Digest[]): Promise<void> => {
    const missing = digests.filter((digest) => !kept.has(digest))
    if (lock === undefined || missing.length === 0) return
    if (isReleased) throw new ConflictError(id, 'the lease has been released')
    try {
      // One write, so that lines of several callers do not mix.
      await gate.shared(() => appendFile(path, missing.map((digest) => `${digest}\n`).join(''), { mode: 0o600 }))
    } catch (error) {
      throw fileError(error, 'keeping content', id)
    }
    for (const digest of missing) kept.add(digest)
  }
  const release = async (): Promise<void> => {
    isReleased = true
    lock?.release({ remove: true })
  }
  return { id, content: leased(content, add), add, release, [Symbol.asyncDispose]: release }
}

/** Before it is looked for: what is there then stays. */
function leased(content: ContentStore & Receiver, add: Lease['add']): ContentStore & Receiver {
  return {
    fetch: (descriptor, options) => content.fetch(descriptor, options),
    resolve: (reference, options) => content.resolve(reference, options),
    tag: (descriptor, reference, options) => content.tag(descriptor, reference, options),
    async exists(descriptor, options) {
      await add(descriptor.digest)
      return content.exists(descriptor, options)
    },
    async push(descriptor, source, options) {
      // An error that comes before the content is taken must meet a listener.
      if (source instanceof Readable) source.on('error', () => {})
      await add(descriptor.digest)
      return content.push(descriptor, source, options)
    },
    async receive(descriptor, open, options) {
      await add(descriptor.digest)
      return content.receive(descriptor, open, options)
    },
  }
}

/** What the leases of living processes keep. */
export async function leasedDigests(folder: string): Promise<ReadonlySet<Digest>> {
  const digests = new Set<Digest>()
  for (const name of await readdir(folder)) {
    const path = join(folder, name)
    const lock = name.endsWith(suffix) ? tryLock(path) : undefined
    if (lock !== undefined) {
      lock.release({ remove: true })
      continue
    }
    for (const line of await lines(path)) if (isDigest(line)) digests.add(line)
  }
  return digests
}

async function lines(path: string): Promise<readonly string[]> {
  try {
    return (await readFile(path, 'latin1')).split('\n')
  } catch (error) {
    // Released at this moment.
    if (hasCode(error, 'ENOENT')) return []
    throw fileError(error, 'reading a lease', path)
  }
}
