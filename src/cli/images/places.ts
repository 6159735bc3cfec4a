import {
  ArchiveWriter,
  type CopyTarget,
  type Fetcher,
  LayoutStore,
  type NamedDescriptor,
  openArchive,
  type ReferrersLister,
  type Resolver,
  type Tagger,
} from '../../content/index.ts'
import type { RegistryClient } from '../../distribution/index.ts'
import { formatReference, isDigest, parseReference, withDefaultTag } from '../../image/index.ts'
import { createEngine, InvalidArgumentError, NotFoundError } from '../../index.ts'
import { plain } from './options.ts'

/** Where an image is, or is to be, as the command line names it. */
export interface Place {
  readonly kind: 'registry' | 'layout' | 'archive' | 'store'
  /** A file or directory; of a registry and the store, the image. */
  readonly path: string
  readonly name: string | undefined
}

/** An image to copy. */
export interface OpenSource extends AsyncDisposable {
  readonly content: Fetcher & Resolver & Partial<ReferrersLister>
  readonly reference: string
  /** What it is called, where it has a name. */
  readonly name: string | undefined
}

/** Where an image is copied to. */
export interface OpenTarget extends AsyncDisposable {
  readonly content: CopyTarget & Tagger
  readonly name: string | undefined
  /** Completes it. */
  finish(): Promise<void>
}

const kinds: Readonly<Record<string, Place['kind']>> = {
  'docker:': 'registry',
  'oci:': 'layout',
  'oci-archive:': 'archive',
  'docker-archive:': 'archive',
  'store:': 'store',
}

/** Reads `oci:/srv/images:app` and the like; what has no such beginning is an image of a registry. */
export function parsePlace(text: string): Place {
  const scheme = Object.keys(kinds).find(
    (each) => text.startsWith(each) && (each !== 'docker:' || text.startsWith('docker://')),
  )
  if (scheme === undefined) return { kind: 'registry', path: text, name: undefined }
  const kind = kinds[scheme] as Place['kind']
  const rest = text.slice(scheme === 'docker:' ? 'docker://'.length : scheme.length)
  if (kind === 'registry' || kind === 'store') return { kind, path: rest, name: undefined }
  const [path = '', ...name] = rest.split(':')
  if (path === '') throw new InvalidArgumentError(`${JSON.stringify(text)} names no file or directory`)
  return { kind, path, name: name.length === 0 ? undefined : name.join(':') }
}

const nothing = async (): Promise<void> => {}

/** Opens an image for reading. @throws NotFoundError, InvalidReferenceError, ArchiveError, … */
export async function openSource({ kind, path, name }: Place, client: RegistryClient): Promise<OpenSource> {
  if (kind === 'registry' || kind === 'store') {
    const reference = withDefaultTag(parseReference(path))
    const full = formatReference(reference)
    const { tag, digest, ...repository } = reference
    // A digest says which image it is, but no name.
    const named = tag === undefined ? undefined : formatReference({ ...repository, tag })
    const found = digest ?? tag ?? 'latest'
    return kind === 'registry'
      ? { content: client.repository(reference), reference: found, name: named, [Symbol.asyncDispose]: nothing }
      : { content: await createEngine().store(), reference: full, name: named, [Symbol.asyncDispose]: nothing }
  }
  const content = kind === 'layout' ? await LayoutStore.open(path) : await openArchive(path)
  const close = async (): Promise<void> => {
    if ('close' in content) await content.close()
  }
  try {
    const found = name ?? onlyOf(await content.list(), path)
    return {
      content,
      reference: found,
      name: isDigest(found) ? undefined : found,
      [Symbol.asyncDispose]: close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

function onlyOf(entries: readonly NamedDescriptor[], path: string): string {
  const [first, ...others] = entries
  if (first !== undefined && others.every(({ descriptor }) => descriptor.digest === first.descriptor.digest)) {
    return first.reference ?? first.descriptor.digest
  }
  const names = entries.map(({ reference, descriptor }) => plain(reference ?? descriptor.digest)).slice(0, 20)
  const hint = names.length === 0 ? undefined : `Name one of them behind a colon: ${names.join(', ')}.`
  throw new NotFoundError(path, `${path} has ${entries.length} images`, { hint })
}

/** Opens a place for writing. `inherited` is what the image is called where it comes from. */
export async function openTarget(
  { kind, path, name }: Place,
  client: RegistryClient,
  inherited: string | undefined,
): Promise<OpenTarget> {
  if (kind === 'registry' || kind === 'store') {
    const reference = withDefaultTag(parseReference(path))
    if (reference.tag === undefined) throw new InvalidArgumentError(`${path} is a digest: name a tag to copy to`)
    const named = kind === 'registry' ? reference.tag : formatReference(reference)
    const content = kind === 'registry' ? client.repository(reference) : await createEngine().store()
    return { content, name: named, finish: nothing, [Symbol.asyncDispose]: nothing }
  }
  if (kind === 'layout') {
    const content = await LayoutStore.create(path)
    return { content, name: name ?? inherited, finish: nothing, [Symbol.asyncDispose]: nothing }
  }
  const content = await ArchiveWriter.create(path)
  let isFinished = false
  return {
    content,
    name: name ?? inherited,
    async finish() {
      await content.finish()
      isFinished = true
    },
    async [Symbol.asyncDispose]() {
      if (!isFinished) await content.destroy()
    },
  }
}
