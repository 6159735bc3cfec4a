import type { Readable, Writable } from 'node:stream'
import type { LoadedImage } from '../content/archive/load.ts'
import type { LoadOptions, SaveOptions } from './archives.ts'
import type { CommitOptions } from './commit.ts'
import type { Container } from './container.ts'
import type { ConvertOptions } from './convert.ts'
import { defaultEngine } from './engine.ts'
import type { FindImageOptions } from './find.ts'
import type { HistoryStep } from './history.ts'
import type { Image } from './image.ts'
import type { ImportOptions } from './import.ts'
import type { SquashOptions } from './squash.ts'

/**
 * An image of the local store, with its manifest and config.
 * @param image A name in any form, or the beginning of an id or digest.
 * @throws NotFoundError, PlatformError; ConflictError when several images begin so
 */
export function inspect(image: string, options?: FindImageOptions): Promise<Image> {
  return defaultEngine().inspect(image, options)
}

/** The steps by which an image was made, the first one first, each with the layer that it made. */
export function history(image: Image | string, options?: FindImageOptions): Promise<readonly HistoryStep[]> {
  return defaultEngine().history(image, options)
}

/**
 * Makes an image of a container, running or stopped: its image, with what the container has changed as one more layer.
 * Volumes are no part of it. The same changes make the same layer.
 * @throws InvalidArgumentError, InvalidReferenceError before anything is done; NotFoundError when the container has been
 * removed; SyscallError, ENOSPC for example. Nothing is left behind.
 */
export function commit(container: Container, options?: CommitOptions): Promise<Image> {
  return defaultEngine().commit(container, options)
}

/**
 * Makes an image of a root file system: a directory, or a tar archive (plain, or compressed with gzip or zstd) in a file
 * or a stream, which becomes its one layer byte by byte.
 * @throws InvalidArgumentError, InvalidReferenceError before anything is done; LayerError, LimitError for an archive that
 * can't be unpacked; SyscallError when there is nothing to read.
 */
export function importRootfs(source: string | Readable, options?: ImportOptions): Promise<Image> {
  return defaultEngine().importRootfs(source, options)
}

/**
 * Makes an image with the same files in fewer layers: one, or those at the bottom that are to stay and one. What only
 * hidden layers hold is no part of it.
 * @throws NotFoundError, PlatformError for the image; what unpacking throws.
 */
export function squash(image: Image | string, options?: SquashOptions): Promise<Image> {
  return defaultEngine().squash(image, options)
}

/**
 * Makes an OCI image of an image of Docker's format, and with `compression` gives its layers another one. Files, config and
 * DiffIDs stay what they are.
 * @throws NotFoundError, PlatformError for the image; UnsupportedError for zstd on a Node without it.
 */
export function convert(image: Image | string, options?: ConvertOptions): Promise<Image> {
  return defaultEngine().convert(image, options)
}

/**
 * Writes images to one archive, which Docker, Podman and skopeo load: it is an OCI archive and a Docker archive in one.
 * Contents that images share are in it once; nothing is kept in between.
 * @param target A file, which appears when it is complete, or a stream, which is ended.
 * @throws NotFoundError for an image that is not there; SyscallError when it can't be written.
 */
export function save(
  images: Image | string | readonly (Image | string)[],
  target: string | Writable,
  options?: SaveOptions,
): Promise<void> {
  return defaultEngine().save(images, target, options)
}

/**
 * Reads the images of an archive into the local store: an OCI archive or a Docker archive, plain or compressed, in a file or
 * a stream; or a directory with an image layout. Which it is, is found out.
 * @throws ArchiveError, SpecError, LimitError for what is none of them; DigestMismatchError, SizeMismatchError for damaged
 * content; NotFoundError for a name of `only` that is not there.
 */
export function load(source: string | Readable, options?: LoadOptions): Promise<readonly LoadedImage[]> {
  return defaultEngine().load(source, options)
}
