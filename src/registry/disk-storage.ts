import { readdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Descriptor } from '../image/descriptor.ts'
import { type Digest, isDigest } from '../image/digest.ts'
import { DiskUpload, openFile } from './disk-blob.ts'
import { DiskCommitter } from './disk-commit.ts'
import {
  createFile,
  ifExists,
  linkDurably,
  removeEmpty,
  removeStale,
  statIfExists,
  unlinkIfExists,
  writeDurably,
} from './disk-files.ts'
import { DiskMaintenance } from './disk-maintenance.ts'
import { DiskPaths, ownerLength } from './disk-paths.ts'
import { isRepository, isTag } from './names.ts'
import type { Referrer, RegistryStorage, StoredBlob, StoredManifest, StoredUpload } from './storage.ts'

/**
 * Keeps a registry's content in a directory, which is made when it is first written to. One server
 * process at a time may write to it. The file system must know hard links and tell upper from lower
 * case in names.
 *
 * ```text
 * blobs/<algorithm>/<hex>                            every blob once
 * repositories/<name>/_blobs/<algorithm>/<hex>       hard link to it: the repository has the blob
 * repositories/<name>/_manifests/<algorithm>/<hex>   a line of JSON (media type, subject), then the manifest
 * repositories/<name>/_tags/<tag>                    the digest
 * repositories/<name>/_referrers/<hash of the subject>/<algorithm>-<hex>   the descriptor of a referrer
 * uploads/                                           uploads, and files that are being written
 * ```
 *
 * A blob's file has one link for each repository that has it and one more, so the kernel counts who
 * uses it: nothing has to be collected later, and no crash leaves a repository with a torn blob.
 */
export function diskStorage(directory: string): RegistryStorage {
  return new DiskStorage(directory)
}

class DiskStorage implements RegistryStorage {
  readonly maintenance: DiskMaintenance
  readonly #paths: DiskPaths
  readonly #committer: DiskCommitter

  constructor(root: string) {
    const repositories = (): Promise<readonly string[]> => this.listRepositories()
    this.#paths = new DiskPaths(root)
    this.maintenance = new DiskMaintenance(this.#paths, repositories)
    this.#committer = new DiskCommitter(this.#paths, this.maintenance, repositories)
  }

  async openBlob(repository: string, digest: Digest): Promise<StoredBlob | undefined> {
    return ifExists(openFile(this.#paths.blobLink(repository, digest)))
  }

  async mountBlob(repository: string, digest: Digest, from: string | undefined): Promise<boolean> {
    const source = from === undefined ? this.#paths.blob(digest) : this.#paths.blobLink(from, digest)
    const link = this.#paths.blobLink(repository, digest)
    const outcome = await linkDurably(source, link)
    if (outcome === 'made') await this.maintenance.changed(repository, (await statIfExists(link))?.size ?? 0, 0)
    return outcome !== 'impossible'
  }

  async deleteBlob(repository: string, digest: Digest): Promise<boolean> {
    const link = this.#paths.blobLink(repository, digest)
    const size = (await statIfExists(link))?.size ?? 0
    if (!(await unlinkIfExists(link))) return false
    const blob = this.#paths.blob(digest)
    // Whoever links to the blob between these two steps keeps its content: only the common name is lost.
    const last = (await statIfExists(blob))?.nlink === 1 && (await unlinkIfExists(blob))
    await this.maintenance.changed(repository, -size, last ? -size : 0)
    await this.#removeIfEmpty(repository)
    return true
  }

  async createUpload(repository: string, id: string): Promise<StoredUpload> {
    const file = this.#paths.upload(repository, id)
    await createFile(file)
    return this.#open(file, 0, repository)
  }

  async recoverUpload(repository: string, id: string): Promise<StoredUpload | undefined> {
    const file = this.#paths.upload(repository, id)
    const stats = await statIfExists(file)
    if (stats === undefined) return undefined
    if (stats.nlink > 1) {
      // It became a blob before the server died: whoever wrote to it now would write to the blob.
      await unlinkIfExists(file)
      return undefined
    }
    return this.#open(file, stats.size, repository)
  }

  async removeStaleUploads(idleMs: number, live: ReadonlySet<string>): Promise<void> {
    await removeStale(this.#paths.uploads, idleMs, (name) => live.has(name.slice(ownerLength + 1)))
  }

  async has(repository: string, digest: Digest): Promise<boolean> {
    return (
      (await statIfExists(this.#paths.blobLink(repository, digest))) !== undefined ||
      (await statIfExists(this.#paths.manifest(repository, digest))) !== undefined
    )
  }

  async getManifest(repository: string, digest: Digest): Promise<StoredManifest | undefined> {
    const content = await ifExists(readFile(this.#paths.manifest(repository, digest)))
    return content && decodeManifest(content)
  }

  async putManifest(repository: string, digest: Digest, manifest: StoredManifest, referrer?: Referrer): Promise<void> {
    const file = this.#paths.manifest(repository, digest)
    const content = encodeManifest(manifest, referrer?.subject)
    const before = (await statIfExists(file))?.size ?? 0
    await writeDurably(file, content, this.#paths.uploads)
    await this.maintenance.changed(repository, content.byteLength - before, content.byteLength - before)
    if (referrer === undefined) return
    const entry = this.#paths.referrer(repository, referrer.subject, digest)
    await writeDurably(entry, JSON.stringify(referrer.descriptor), this.#paths.uploads)
  }

  async deleteManifest(repository: string, digest: Digest): Promise<boolean> {
    const file = this.#paths.manifest(repository, digest)
    const content = await ifExists(readFile(file))
    if (content === undefined) return false
    // The manifest goes last: when this is interrupted, asking again finds it and does the rest.
    for (const tag of (await this.listTags(repository)) ?? []) {
      if ((await this.getTag(repository, tag)) === digest) await this.deleteTag(repository, tag)
    }
    const { subject } = decodeManifest(content)
    if (subject !== undefined) {
      const entry = this.#paths.referrer(repository, subject, digest)
      await unlinkIfExists(entry)
      await removeEmpty(dirname(entry))
    }
    await unlinkIfExists(file)
    await this.maintenance.changed(repository, -content.byteLength, -content.byteLength)
    await this.#removeIfEmpty(repository)
    return true
  }

  async *referrers(repository: string, subject: Digest, after: string): AsyncGenerator<Descriptor> {
    const directory = this.#paths.referrers(repository, subject)
    const names = (await ifExists(readdir(directory))) ?? []
    for (const name of names.filter((name) => name > after.replace(':', '-')).sort()) {
      const content = await ifExists(readFile(join(directory, name), 'utf8'))
      if (content !== undefined) yield JSON.parse(content)
    }
  }

  async getTag(repository: string, tag: string): Promise<Digest | undefined> {
    const content = await ifExists(readFile(this.#paths.tag(repository, tag), 'utf8'))
    return content !== undefined && isDigest(content) ? content : undefined
  }

  async putTag(repository: string, tag: string, digest: Digest): Promise<void> {
    await writeDurably(this.#paths.tag(repository, tag), digest, this.#paths.uploads)
  }

  async deleteTag(repository: string, tag: string): Promise<boolean> {
    return unlinkIfExists(this.#paths.tag(repository, tag))
  }

  async listTags(repository: string): Promise<readonly string[] | undefined> {
    const entries = await ifExists(readdir(this.#paths.repository(repository)))
    if (entries === undefined || !holdsContent(entries)) return undefined
    const tags = (await ifExists(readdir(join(this.#paths.repository(repository), '_tags')))) ?? []
    return tags.filter(isTag)
  }

  async listRepositories(): Promise<readonly string[]> {
    const names: string[] = []
    const waiting = ['']
    for (let prefix = waiting.pop(); prefix !== undefined; prefix = waiting.pop()) {
      const entries = (await ifExists(readdir(join(this.#paths.root, 'repositories', prefix)))) ?? []
      if (prefix !== '' && holdsContent(entries)) names.push(prefix)
      const inside = entries.map((entry) => (prefix === '' ? entry : `${prefix}/${entry}`))
      waiting.push(...inside.filter(isRepository))
    }
    return names
  }

  #open(file: string, size: number, repository: string): StoredUpload {
    const upload: DiskUpload = new DiskUpload(file, size, (digest) =>
      this.#committer.commit(file, upload.size, repository, digest),
    )
    return upload
  }

  async #removeIfEmpty(repository: string): Promise<void> {
    let directory = this.#paths.repository(repository)
    const inside = ['_blobs/sha256', '_blobs/sha512', '_blobs', '_manifests/sha256', '_manifests/sha512', '_manifests']
    for (const name of [...inside, '_tags', '_referrers']) await removeEmpty(join(directory, name))
    const top = join(this.#paths.root, 'repositories')
    while (directory !== top && (await removeEmpty(directory))) directory = dirname(directory)
  }
}

/** Whether a repository's directory has what makes it one. */
function holdsContent(entries: readonly string[]): boolean {
  return entries.includes('_blobs') || entries.includes('_manifests')
}

interface ManifestHeader {
  readonly mediaType: string
  readonly subject?: Digest
}

function encodeManifest({ mediaType, raw }: StoredManifest, subject: Digest | undefined): Buffer {
  const header: ManifestHeader = subject === undefined ? { mediaType } : { mediaType, subject }
  return Buffer.concat([Buffer.from(`${JSON.stringify(header)}\n`), raw])
}

function decodeManifest(content: Buffer): StoredManifest & ManifestHeader {
  const end = content.indexOf('\n')
  const header: ManifestHeader = JSON.parse(content.toString('utf8', 0, end))
  return { ...header, raw: content.subarray(end + 1) }
}
