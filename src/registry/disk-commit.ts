import { randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { join } from 'node:path'
import { NotFoundError } from '../errors.ts'
import { createDigester, type Digest, digestAlgorithm } from '../image/digest.ts'
import { linkDurably, replaceDurably, statIfExists } from './disk-files.ts'
import type { DiskMaintenance } from './disk-maintenance.ts'
import type { DiskPaths } from './disk-paths.ts'

/** How much of a file one read takes, in bytes. */
const readSize = 256 * 1024

/** Makes blobs of files. */
export class DiskCommitter {
  readonly #paths: DiskPaths
  readonly #maintenance: DiskMaintenance
  readonly #repositories: () => Promise<readonly string[]>

  constructor(paths: DiskPaths, maintenance: DiskMaintenance, repositories: () => Promise<readonly string[]>) {
    this.#paths = paths
    this.#maintenance = maintenance
    this.#repositories = repositories
  }

  /** A whole, verified file becomes a blob of a repository. */
  async commit(file: string, size: number, repository: string, digest: Digest): Promise<void> {
    const blob = this.#paths.blob(digest)
    const link = this.#paths.blobLink(repository, digest)
    const common = await linkDurably(file, blob)
    if (common === 'existed') await this.#heal(file, digest)
    let own = await linkDurably(blob, link)
    // The blob may be removed in between, or have as many links as the file system allows.
    if (own === 'impossible') own = await linkDurably(file, link)
    if (own === 'impossible') throw new NotFoundError(digest, `the upload of ${digest} is gone`)
    await this.#maintenance.changed(repository, own === 'made' ? size : 0, common === 'made' ? size : 0)
  }

  /** A blob that is there already may have rotted on the disk: now there is good content to put in its place. */
  async #heal(file: string, digest: Digest): Promise<void> {
    const blob = this.#paths.blob(digest)
    if (!(await isIntact(blob, digest))) await replaceDurably(file, blob, this.#temporary())
    const good = (await statIfExists(blob))?.ino
    if (good === undefined) return
    for (const repository of await this.#repositories()) {
      const link = this.#paths.blobLink(repository, digest)
      const other = await statIfExists(link)
      if (other === undefined || other.ino === good) continue
      await replaceDurably(blob, link, this.#temporary())
      this.#maintenance.recount()
    }
  }

  #temporary(): string {
    return join(this.#paths.uploads, randomUUID())
  }
}

async function isIntact(file: string, digest: Digest): Promise<boolean> {
  const digester = createDigester(digestAlgorithm(digest))
  try {
    for await (const chunk of createReadStream(file, { highWaterMark: readSize })) digester.update(chunk as Buffer)
  } catch {
    // What can't be read is no good either, and what has gone meanwhile needs no look.
    return false
  }
  return digester.digest() === digest
}
