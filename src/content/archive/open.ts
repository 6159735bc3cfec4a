import { type FileHandle, open } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { ArchiveError, LimitError } from '../../errors.ts'
import { createDigester, type Digest } from '../../image/digest.ts'
import { parseIndex } from '../../image/image-index.ts'
import { parseLayoutHeader } from '../../image/layout-header.ts'
import { detectCompression } from '../../internal/compression.ts'
import { fileError } from '../../internal/file-error.ts'
import { documentLimits } from '../limits.ts'
import { destroyOnAbort } from '../stream-abort.ts'
import { writeStream } from '../write-stream.ts'
import { Archive, type ArchiveParts } from './archive.ts'
import { decompressed } from './compression.ts'
import { type LayerFile, parseDockerManifest, readDockerImages, refuseArchive } from './docker.ts'
import { FileIndex, type Place } from './file-index.ts'
import { FileSlice } from './file-slice.ts'
import { type ArchiveOptions, maxBytesOf } from './limits.ts'
import { digestOfPath, documentNames } from './paths.ts'
import { temporaryFile } from './temporary-file.ts'

/**
 * Opens an archive of images, of either kind: an image layout in a tar archive ("OCI archive"), or what
 * `docker save` and `podman save` write ("Docker archive"); one that is both is read as the first. A
 * file that is not compressed is read where it lies. A stream, and a file that is compressed with gzip
 * or zstd, is copied to a temporary file first, which nobody else sees; `loadArchive` needs no copy.
 *
 * The contents of an OCI archive are as they were; a Docker archive has no manifests: they are made up,
 * always the same, around configs and layers as they are.
 *
 * @throws ArchiveError, SpecError, LimitError for what is no such archive, is damaged or too large;
 * SyscallError when the file can't be read; `signal.reason` when aborted.
 */
export async function openArchive(source: string | Readable, options: ArchiveOptions = {}): Promise<Archive> {
  const { signal } = options
  signal?.throwIfAborted()
  const file = await openFile(source, options)
  try {
    const index = await FileIndex.read(file, options, signal)
    return new Archive(index, await readParts(index, signal))
  } catch (error) {
    await file.close()
    throw fileError(error, 'reading an archive', typeof source === 'string' ? source : undefined)
  }
}

/** The file itself, or a temporary one with its decompressed content. */
async function openFile(source: string | Readable, options: ArchiveOptions): Promise<FileHandle> {
  if (typeof source !== 'string') return toTemporaryFile(source, options)
  const file = await openForReading(source)
  let isOpen = true
  try {
    if (!(await startsCompressed(file))) {
      isOpen = false
      return file
    }
    const { size } = await file.stat()
    return await toTemporaryFile(new FileSlice(file, 0, size), options)
  } catch (error) {
    throw fileError(error, 'reading an archive', source)
  } finally {
    if (isOpen) await file.close()
  }
}

/** Whether the file is compressed, by its first bytes. @throws SyscallError */
export async function isCompressed(path: string): Promise<boolean> {
  const file = await openForReading(path)
  try {
    return await startsCompressed(file)
  } catch (error) {
    throw fileError(error, 'reading an archive', path)
  } finally {
    await file.close()
  }
}

async function startsCompressed(file: FileHandle): Promise<boolean> {
  const { bytesRead, buffer } = await file.read(Buffer.alloc(4), 0, 4, 0)
  return detectCompression(buffer.subarray(0, bytesRead)) !== 'none'
}

async function openForReading(path: string): Promise<FileHandle> {
  try {
    return await open(path)
  } catch (error) {
    throw fileError(error, 'opening an archive', path)
  }
}

async function toTemporaryFile(source: Readable, options: ArchiveOptions): Promise<FileHandle> {
  const { signal, temporaryDirectory } = options
  const limit = maxBytesOf(options)
  destroyOnAbort(source, signal)
  const file = await temporaryFile(temporaryDirectory)
  try {
    const bounded = async function* (): AsyncGenerator<Uint8Array> {
      let bytes = 0
      for await (const chunk of decompressed(source)) {
        bytes += chunk.byteLength
        if (bytes > limit) throw new LimitError('archive', limit, 'bytes')
        yield chunk
      }
    }
    await writeStream(file, Readable.from(bounded(), { objectMode: false }))
    return file
  } catch (error) {
    await file.close()
    signal?.throwIfAborted()
    throw fileError(error, 'writing a temporary file', temporaryDirectory)
  } finally {
    source.destroy()
  }
}

async function readParts(index: FileIndex, signal: AbortSignal | undefined): Promise<ArchiveParts> {
  const paths = new Set(index.paths())
  const contents = new Map<Digest, Place | Uint8Array>()
  for (const path of paths) {
    const digest = digestOfPath(path)
    const place = digest === undefined ? undefined : index.find(path)
    if (digest !== undefined && place !== undefined) contents.set(digest, place)
  }
  if (paths.has(documentNames.layout) && paths.has(documentNames.index)) {
    parseLayoutHeader(await index.document(documentNames.layout, documentLimits.config))
    const { value } = parseIndex(await index.document(documentNames.index, documentLimits.index))
    return { format: 'oci', entries: value.manifests, contents }
  }
  if (!paths.has(documentNames.docker)) refuseArchive(paths.has('repositories'))
  const images = parseDockerManifest(await index.document(documentNames.docker, documentLimits.index))
  const layers = new Map<string, LayerFile>()
  const { entries, documents } = await readDockerImages(images, {
    config: (path) => index.document(path, documentLimits.config),
    async layer(path, diffId) {
      const known = layers.get(path) ?? (await readLayer(index, path, diffId, contents, signal))
      layers.set(path, known)
      return known
    },
  })
  for (const [digest, bytes] of documents) contents.set(digest, bytes)
  return { format: 'docker', entries, contents }
}

/**
 * A layer that is not compressed is what the config says it is, or the copy of it fails: it need not be
 * read to know its digest. Of a compressed one only its bytes, or a name among `blobs`, tell.
 */
async function readLayer(
  index: FileIndex,
  path: string,
  diffId: Digest,
  contents: Map<Digest, Place | Uint8Array>,
  signal: AbortSignal | undefined,
): Promise<LayerFile> {
  const place = index.find(path)
  if (place === undefined) throw new ArchiveError('it is missing', path)
  const compression = detectCompression(await index.bytes({ offset: place.offset, size: Math.min(4, place.size) }))
  let digest = compression === 'none' ? diffId : digestOfPath(path)
  if (digest === undefined) {
    const digester = createDigester()
    const slice = destroyOnAbort(new FileSlice(index.file, place.offset, place.size), signal)
    for await (const chunk of slice) digester.update(chunk as Uint8Array)
    digest = digester.digest()
  }
  contents.set(digest, place)
  return { digest, size: place.size, compression }
}
