import { posix } from 'node:path'
import { type Digest, isDigest, isVerifiable } from '../../image/digest.ts'
import type { TarEntry } from './tar.ts'

/**
 * The path that a name means within the archive: without `./` and a leading slash, and never above its
 * top. Names are looked up only; nothing is written under one.
 */
export function entryPath(name: string): string {
  return posix.normalize(`/${name}`).replace(/^\/+|\/+$/g, '')
}

/** Links that follow one another at most. */
export const maxLinks = 8

/** What a link of the archive points at: a symlink from where it is, a hard link from the top. */
export function linkTarget(path: string, { type, linkName }: TarEntry): string {
  return entryPath(
    type === 'symlink' && !linkName.startsWith('/') ? posix.join(posix.dirname(path), linkName) : linkName,
  )
}

/** Where a layout keeps the content of a digest. */
export function blobPath(digest: Digest): string {
  return `blobs/${digest.replace(':', '/')}`
}

/** The digest that a path names; undefined when it is not where a layout keeps content that can be verified. */
export function digestOfPath(path: string): Digest | undefined {
  const [, algorithm, encoded] = /^blobs\/([^/]+)\/([^/]+)$/.exec(path) ?? []
  const digest = `${algorithm}:${encoded}`
  return algorithm !== undefined && isDigest(digest) && isVerifiable(digest) ? digest : undefined
}

/** The files that say what the archive holds. Each may occur once only: readers disagree on which of two counts. */
export const documentNames = { layout: 'oci-layout', index: 'index.json', docker: 'manifest.json' } as const

/** Whether a path is that of a file which says what the archive holds. */
export function isDocument(path: string): boolean {
  return path === documentNames.layout || path === documentNames.index || path === documentNames.docker
}
