import { readdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { NotFoundError } from '../errors.ts'
import type { Descriptor } from '../image/descriptor.ts'
import { type Digest, digestAlgorithm, digestEncoded, digestOf, isDigest } from '../image/digest.ts'
import { DiskUpload, openFile } from './disk-blob.ts'
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

/** Characters of an upload's file name that stand for its repository. */
const ownerLength = 16

class DiskStorage implements RegistryStorage {
  readonly #root: string
  readonly #uploads: string

  constructor(root: string) {
    this.#root = root
    this.#uploads = join(root, 'uploads')
  }

  async openBlob(repository: string, digest: Digest): Promise<StoredBlob | undefined> {
    return ifExists(openFile(this.#blobLink(repository, digest)))
  }

  async mountBlob(repository: string, digest: Digest, from: string | undefined): Promise<boolean> {
    const source = from === undefined ? this.#blob(digest) : this.#blobLink(from, digest)
    return linkDurably(source, this.#blobLink(repository, digest))
  }

  async deleteBlob(repository: string, digest: Digest): Promise<boolean> {
    const link = this.#blobLink(repository, digest)
    if (!(await unlinkIfExists(link))) return false
    const blob = this.#blob(digest)
    // Whoever links to the blob between these two steps keeps its content: only the common name is lost.
    if ((await statIfExists(blob))?.nlink === 1) await unlinkIfExists(blob)
    await this.#removeIfEmpty(repository)
    return true
  }

  async createUpload(repository: string, id: string): Promise<StoredUpload> {
    const file = this.#upload(repository, id)
    await createFile(file)
    return new DiskUpload(file, 0, (digest) => this.#commit(file, repository, digest))
  }

  async recoverUpload(repository: string, id: string): Promise<StoredUpload | undefined> {
    const file = this.#upload(repository, id)
    const stats = await statIfExists(file)
    if (stats === undefined) return undefined
    if (stats.nlink > 1) {
      // It became a blob before the server died: whoever wrote to it now would write to the blob.
      await unlinkIfExists(file)
      return undefined
    }
    return new DiskUpload(file, stats.size, (digest) => this.#commit(file, repository, digest))
  }

  async removeStaleUploads(idleMs: number, live: ReadonlySet<string>): Promise<void> {
    await removeStale(this.#uploads, idleMs, (name) => live.has(name.slice(ownerLength + 1)))
  }

  async has(repository: string, digest: Digest): Promise<boolean> {
    return (
      (await statIfExists(this.#blobLink(repository, digest))) !== undefined ||
      (await statIfExists(this.#manifest(repository, digest))) !== undefined
    )
  }

  async getManifest(repository: string, digest: Digest): Promise<StoredManifest | undefined> {
    const content = await ifExists(readFile(this.#manifest(repository, digest)))
    return content && decodeManifest(content)
  }

  async putManifest(repository: string, digest: Digest, manifest: StoredManifest, referrer?: Referrer): Promise<void> {
    await writeDurably(this.#manifest(repository, digest), encodeManifest(manifest, referrer?.subject), this.#uploads)
    if (referrer === undefined) return
    const entry = this.#referrer(repository, referrer.subject, digest)
    await writeDurably(entry, JSON.stringify(referrer.descriptor), this.#uploads)
  }

  async deleteManifest(repository: string, digest: Digest): Promise<boolean> {
    const file = this.#manifest(repository, digest)
    const content = await ifExists(readFile(file))
    if (content === undefined) return false
    // The manifest goes last: when this is interrupted, asking again finds it and does the rest.
    for (const tag of (await this.listTags(repository)) ?? []) {
      if ((await this.getTag(repository, tag)) === digest) await this.deleteTag(repository, tag)
    }
    const { subject } = decodeManifest(content)
    if (subject !== undefined) {
      const entry = this.#referrer(repository, subject, digest)
      await unlinkIfExists(entry)
      await removeEmpty(dirname(entry))
    }
    await unlinkIfExists(file)
    await this.#removeIfEmpty(repository)
    return true
  }

  async *referrers(repository: string, subject: Digest, after: string): AsyncGenerator<Descriptor> {
    const directory = this.#referrers(repository, subject)
    const names = (await ifExists(readdir(directory))) ?? []
    for (const name of names.filter((name) => name > after.replace(':', '-')).sort()) {
      const content = await ifExists(readFile(join(directory, name), 'utf8'))
      if (content !== undefined) yield JSON.parse(content)
    }
  }

  async getTag(repository: string, tag: string): Promise<Digest | undefined> {
    const content = await ifExists(readFile(join(this.#repository(repository), '_tags', tag), 'utf8'))
    return content !== undefined && isDigest(content) ? content : undefined
  }

  async putTag(repository: string, tag: string, digest: Digest): Promise<void> {
    await writeDurably(join(this.#repository(repository), '_tags', tag), digest, this.#uploads)
  }

  async deleteTag(repository: string, tag: string): Promise<boolean> {
    return unlinkIfExists(join(this.#repository(repository), '_tags', tag))
  }

  async listTags(repository: string): Promise<readonly string[] | undefined> {
    const entries = await ifExists(readdir(this.#repository(repository)))
    if (entries === undefined || !holdsContent(entries)) return undefined
    const tags = (await ifExists(readdir(join(this.#repository(repository), '_tags')))) ?? []
    return tags.filter(isTag)
  }

  async listRepositories(): Promise<readonly string[]> {
    const names: string[] = []
    const waiting = ['']
    for (let prefix = waiting.pop(); prefix !== undefined; prefix = waiting.pop()) {
      const entries = (await ifExists(readdir(join(this.#root, 'repositories', prefix)))) ?? []
      if (prefix !== '' && holdsContent(entries)) names.push(prefix)
      const inside = entries.map((entry) => (prefix === '' ? entry : `${prefix}/${entry}`))
      waiting.push(...inside.filter(isRepository))
    }
    return names
  }

  /** A whole, verified file becomes a blob of a repository. */
  async #commit(file: string, repository: string, digest: Digest): Promise<void> {
    const blob = this.#blob(digest)
    const link = this.#blobLink(repository, digest)
    await linkDurably(file, blob)
    // The blob may be removed in between, or have as many links as the file system allows.
    if ((await linkDurably(blob, link)) || (await linkDurably(file, link))) return
    throw new NotFoundError(digest, `the upload of ${digest} is gone`)
  }

  async #removeIfEmpty(repository: string): Promise<void> {
    let directory = this.#repository(repository)
    const inside = ['_blobs/sha256', '_blobs/sha512', '_blobs', '_manifests/sha256', '_manifests/sha512', '_manifests']
    for (const name of [...inside, '_tags', '_referrers']) await removeEmpty(join(directory, name))
    const top = join(this.#root, 'repositories')
    while (directory !== top && (await removeEmpty(directory))) directory = dirname(directory)
  }

  #repository(name: string): string {
    return join(this.#root, 'repositories', name)
  }

  #blob(digest: Digest): string {
    return join(this.#root, 'blobs', digestAlgorithm(digest), digestEncoded(digest))
  }

  #blobLink(repository: string, digest: Digest): string {
    return join(this.#repository(repository), '_blobs', digestAlgorithm(digest), digestEncoded(digest))
  }

  #manifest(repository: string, digest: Digest): string {
    return join(this.#repository(repository), '_manifests', digestAlgorithm(digest), digestEncoded(digest))
  }

  /** A subject may have any algorithm, and be longer than a file name. */
  #referrers(repository: string, subject: Digest): string {
    return join(this.#repository(repository), '_referrers', digestEncoded(digestOf(Buffer.from(subject))))
  }

  #referrer(repository: string, subject: Digest, digest: Digest): string {
    return join(this.#referrers(repository, subject), digest.replace(':', '-'))
  }

  /** The name says whose upload it is, so that no other repository can take it up. */
  #upload(repository: string, id: string): string {
    return join(this.#uploads, `${digestEncoded(digestOf(Buffer.from(repository))).slice(0, ownerLength)}-${id}`)
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
