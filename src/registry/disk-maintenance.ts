import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { type Digest, isDigest } from '../image/digest.ts'
import { ifExists, statIfExists, unlinkIfExists } from './disk-files.ts'
import type { DiskPaths } from './disk-paths.ts'
import type { StorageMaintenance, StoredEntry } from './storage.ts'

/** Lists and measures what is on the disk. */
export class DiskMaintenance implements StorageMaintenance {
  readonly #paths: DiskPaths
  readonly #repositories: () => Promise<readonly string[]>
  /** Bytes; counted once, and kept up to date from then on. */
  #counted: Promise<Counts> | undefined

  constructor(paths: DiskPaths, repositories: () => Promise<readonly string[]>) {
    this.#paths = paths
    this.#repositories = repositories
  }

  async usage(repository?: string): Promise<number> {
    this.#counted ??= this.#count()
    const counts = await this.#counted
    return repository === undefined ? counts.total : (counts.repositories.get(repository) ?? 0)
  }

  /** Tells of a change: bytes that a repository has more or less, and that there are more or less in all. */
  async changed(repository: string, bytes: number, total: number): Promise<void> {
    if (this.#counted === undefined) return
    const counts = await this.#counted
    const sum = (counts.repositories.get(repository) ?? 0) + bytes
    if (sum > 0) counts.repositories.set(repository, sum)
    else counts.repositories.delete(repository)
    counts.total += total
  }

  /** Has everything counted again when it is asked for. */
  recount(): void {
    this.#counted = undefined
  }

  blobs(repository: string): AsyncIterable<StoredEntry> {
    return entries(join(this.#paths.repository(repository), '_blobs'))
  }

  manifests(repository: string): AsyncIterable<StoredEntry> {
    return entries(join(this.#paths.repository(repository), '_manifests'))
  }

  async removeUnreferenced(before: number, dryRun: boolean): Promise<readonly StoredEntry[]> {
    const found: StoredEntry[] = []
    for await (const entry of entries(join(this.#paths.root, 'blobs'))) {
      const file = this.#paths.blob(entry.digest)
      // Looked at again: somebody may have mounted it since.
      const stats = await statIfExists(file)
      if (stats === undefined || stats.nlink > 1 || stats.ctimeMs >= before) continue
      if (!dryRun && !(await unlinkIfExists(file))) continue
      found.push(entry)
    }
    if (!dryRun && found.length > 0) this.recount()
    return found
  }

  async #count(): Promise<Counts> {
    const counts: Counts = { repositories: new Map(), total: 0 }
    for await (const { size } of entries(join(this.#paths.root, 'blobs'))) counts.total += size
    for (const repository of await this.#repositories()) {
      let sum = 0
      for await (const { size } of this.manifests(repository)) sum += size
      counts.total += sum
      for await (const { size } of this.blobs(repository)) sum += size
      counts.repositories.set(repository, sum)
    }
    return counts
  }
}

interface Counts {
  readonly repositories: Map<string, number>
  total: number
}

/** The files `<algorithm>/<hex>` of a directory. */
async function* entries(directory: string): AsyncGenerator<StoredEntry> {
  for (const algorithm of ['sha256', 'sha512']) {
    for (const encoded of (await ifExists(readdir(join(directory, algorithm)))) ?? []) {
      const digest: Digest = `${algorithm}:${encoded}`
      const stats = isDigest(digest) ? await statIfExists(join(directory, algorithm, encoded)) : undefined
      // A new name changes the file's ctime, its mtime tells of its content only.
      if (stats?.isFile()) yield { digest, size: stats.size, changed: stats.ctimeMs }
    }
  }
}
