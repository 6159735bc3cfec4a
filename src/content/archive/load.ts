import { createReadStream } from 'node:fs'
import { Readable } from 'node:stream'
import { NotFoundError } from '../../errors.ts'
import type { Descriptor } from '../../image/descriptor.ts'
import type { Digest } from '../../image/digest.ts'
import { parseIndex } from '../../image/image-index.ts'
import { parseLayoutHeader } from '../../image/layout-header.ts'
import { fileError } from '../../internal/file-error.ts'
import { type CopyOptions, copy } from '../copy.ts'
import { ProgressMeter } from '../copy-progress.ts'
import type { Fetcher, Pusher, ReferrersLister, Resolver, Tagger } from '../interfaces.ts'
import { unknownType } from '../media-type-of.ts'
import { findNamed, listed } from '../named.ts'
import { referrerOf, selectReferrers } from '../referrer.ts'
import { destroyOnAbort } from '../stream-abort.ts'
import { parseDockerManifest, readDockerImages, refuseArchive } from './docker.ts'
import { Ingest } from './ingest.ts'
import type { ArchiveLimits } from './limits.ts'
import { isCompressed, openArchive } from './open.ts'
import { documentNames } from './paths.ts'

/** Options of {@link loadArchive}. */
export interface LoadOptions extends Omit<CopyOptions, 'as'>, ArchiveLimits {
  /** Names of the images to load; default all that the archive lists. */
  readonly only?: readonly string[] | undefined
  /** Directory for what must be kept in a file while it is read. Default that of the system. */
  readonly temporaryDirectory?: string | undefined
}

/** An image that has been loaded. */
export interface LoadedImage {
  /** The name it was given at the target; undefined when the archive has none for it. */
  readonly reference: string | undefined
  readonly descriptor: Descriptor
}

/**
 * Loads the images of an archive, of either kind, into `target`, which keeps their names. A file that
 * is not compressed is read where it lies, and only what is wanted of it. A stream, or a file that is
 * compressed, goes straight to the target as it comes, all that it holds, also when not all of it is
 * wanted. A copy in a temporary file is made only of single layers of old Docker archives, of which neither name nor place tells a digest.
 *
 * Progress begins anew with each image. Errors are those of `openArchive` and `copy`; with
 * NotFoundError for a name of `only` that is not in the archive.
 */
export async function loadArchive(
  source: string | Readable,
  target: Pusher & Partial<Tagger>,
  options: LoadOptions = {},
): Promise<readonly LoadedImage[]> {
  if (typeof source !== 'string') return loadStream(source, target, options)
  if (await isCompressed(source))
    return loadStream(createReadStream(source, { highWaterMark: 1 << 18 }), target, options)
  const archive = await openArchive(source, options)
  try {
    return await copyImages(archive, await archive.list(), target, options)
  } finally {
    await archive.close()
  }
}

async function loadStream(
  source: Readable,
  target: Pusher & Partial<Tagger>,
  options: LoadOptions,
): Promise<readonly LoadedImage[]> {
  const { signal, onProgress } = options
  const meter = new ProgressMeter(onProgress)
  const ingest = new Ingest(destroyOnAbort(source, signal), target, options, (digest, size) => {
    const descriptor = { mediaType: unknownType, digest, size }
    meter.found(descriptor)
    return meter.started(descriptor)
  })
  try {
    await ingest.run()
  } catch (error) {
    signal?.throwIfAborted()
    throw fileError(error, 'reading an archive')
  } finally {
    source.destroy()
  }
  const { entries, documents } = await read(ingest)
  const held = heldSource(entries, documents)
  return copyImages(held, listed(entries), target, options)
}

async function read(ingest: Ingest): Promise<{
  readonly entries: readonly Descriptor[]
  readonly documents: ReadonlyMap<Digest, Uint8Array>
}> {
  if (ingest.has(documentNames.layout) && ingest.has(documentNames.index)) {
    parseLayoutHeader(ingest.file(documentNames.layout))
    return { entries: parseIndex(ingest.file(documentNames.index)).value.manifests, documents: ingest.documents }
  }
  if (!ingest.has(documentNames.docker)) refuseArchive(ingest.has('repositories'))
  return readDockerImages(parseDockerManifest(ingest.file(documentNames.docker)), {
    config: async (path) => ingest.file(path),
    layer: async (path) => ingest.layer(path),
  })
}

/** What has been held of a stream as a source; the rest is at the target. */
function heldSource(
  entries: readonly Descriptor[],
  documents: ReadonlyMap<Digest, Uint8Array>,
): Fetcher & Resolver & ReferrersLister {
  return {
    async fetch({ digest }: Descriptor) {
      const bytes = documents.get(digest)
      if (bytes === undefined) throw new NotFoundError(digest, `${digest} is not in the archive`)
      return Readable.from([bytes], { objectMode: false })
    },
    async resolve(reference: string) {
      const found = findNamed(entries, reference, 'the archive')
      if (found === undefined) throw new NotFoundError(reference)
      return found
    },
    async *referrers(subject: Descriptor, { artifactType }: { readonly artifactType?: string | undefined } = {}) {
      const all = entries.flatMap((entry) => referrerOf(entry, documents.get(entry.digest) ?? new Uint8Array()) ?? [])
      yield* selectReferrers(all, subject.digest, artifactType)
    },
  }
}

async function copyImages(
  source: Fetcher & Resolver & Partial<ReferrersLister>,
  images: readonly LoadedImage[],
  target: Pusher & Partial<Tagger>,
  options: LoadOptions,
): Promise<readonly LoadedImage[]> {
  const { only, ...rest } = options
  for (const name of only ?? []) {
    if (!images.some(({ reference }) => reference === name)) {
      throw new NotFoundError(name, `${name} is not in the archive`)
    }
  }
  const loaded: LoadedImage[] = []
  for (const { reference, descriptor } of images) {
    if (only !== undefined && (reference === undefined || !only.includes(reference))) continue
    const named = target.tag === undefined || reference === undefined ? {} : { as: reference }
    const copied = await copy(source, descriptor.digest, target, { ...rest, ...named })
    loaded.push({ reference, descriptor: copied })
  }
  return loaded
}
