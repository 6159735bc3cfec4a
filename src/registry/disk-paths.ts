import { join } from 'node:path'
import { type Digest, digestAlgorithm, digestEncoded, digestOf } from '../image/digest.ts'

/** Characters of an upload's file name that stand for its repository. */
export const ownerLength = 16

/** Where everything is in a registry's directory; `diskStorage` shows the layout. */
export class DiskPaths {
  readonly root: string
  readonly uploads: string

  constructor(root: string) {
    this.root = root
    this.uploads = join(root, 'uploads')
  }

  repository(name: string): string {
    return join(this.root, 'repositories', name)
  }

  blob(digest: Digest): string {
    return join(this.root, 'blobs', digestAlgorithm(digest), digestEncoded(digest))
  }

  blobLink(repository: string, digest: Digest): string {
    return join(this.repository(repository), '_blobs', digestAlgorithm(digest), digestEncoded(digest))
  }

  manifest(repository: string, digest: Digest): string {
    return join(this.repository(repository), '_manifests', digestAlgorithm(digest), digestEncoded(digest))
  }

  tag(repository: string, tag: string): string {
    return join(this.repository(repository), '_tags', tag)
  }

  /** A subject may have any algorithm, and be longer than a file name. */
  referrers(repository: string, subject: Digest): string {
    return join(this.repository(repository), '_referrers', digestEncoded(digestOf(Buffer.from(subject))))
  }

  referrer(repository: string, subject: Digest, digest: Digest): string {
    return join(this.referrers(repository, subject), digest.replace(':', '-'))
  }

  /** The name says whose upload it is, so that no other repository can take it up. */
  upload(repository: string, id: string): string {
    return join(this.uploads, `${digestEncoded(digestOf(Buffer.from(repository))).slice(0, ownerLength)}-${id}`)
  }
}
