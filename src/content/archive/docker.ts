import { ArchiveError, DigestMismatchError, InvalidReferenceError, SpecError } from '../../errors.ts'
import { parseImageConfig } from '../../image/config.ts'
import { type Descriptor, descriptorOf } from '../../image/descriptor.ts'
import { type Digest, digestOf } from '../../image/digest.ts'
import { assertLayerCount } from '../../image/manifest.ts'
import { mediaType } from '../../image/media-type.ts'
import { formatReference, parseReference } from '../../image/reference.ts'
import { isJsonObject, parseJson } from '../../internal/json.ts'
import { withName } from '../named.ts'
import { entryPath } from './paths.ts'

/** An entry of the `manifest.json` of a Docker archive. */
export interface DockerImage {
  /** Path of its config. */
  readonly config: string
  /** Its names, in full. */
  readonly names: readonly string[]
  /** Paths of its layers, bottom first. */
  readonly layers: readonly string[]
}

/** A layer as it is in the archive. */
export interface LayerFile {
  readonly digest: Digest
  readonly size: number
  readonly compression: 'gzip' | 'zstd' | 'none'
}

/** Looks into a Docker archive. */
export interface DockerFiles {
  config(path: string): Promise<Uint8Array>
  /** `diffId`: what the layer's digest must be when it is not compressed. */
  layer(path: string, diffId: Digest): Promise<LayerFile>
}

/** What a Docker archive is as an image layout. */
export interface DockerContent {
  /** Entries of an `index.json`. */
  readonly entries: readonly Descriptor[]
  /** The manifests, which such an archive has none of, and the configs. */
  readonly documents: ReadonlyMap<Digest, Uint8Array>
}

const layerTypes = { none: mediaType.ociLayer, gzip: mediaType.ociLayerGzip, zstd: mediaType.ociLayerZstd } as const

/** @throws SpecError */
export function parseDockerManifest(raw: Uint8Array): readonly DockerImage[] {
  const fail = (pointer: string, message: string): never => {
    throw new SpecError('manifest.json', [{ pointer, message }])
  }
  const images = parseJson(raw, 'manifest.json')
  if (!Array.isArray(images)) return fail('', 'must be an array')
  const strings = (value: unknown, pointer: string): readonly string[] => {
    const list = value ?? []
    if (Array.isArray(list) && list.every((item) => typeof item === 'string')) return list
    return fail(pointer, 'must be an array of strings')
  }
  return images.map((image: unknown, index) => {
    if (!isJsonObject(image)) return fail(`/${index}`, 'must be an object')
    const { Config: config } = image
    if (typeof config !== 'string') return fail(`/${index}/Config`, 'must be a string')
    const names = strings(image.RepoTags, `/${index}/RepoTags`)
      .filter((name) => name !== '<none>:<none>')
      .map((name) => fullName(name, `/${index}/RepoTags`))
    return { config: entryPath(config), names, layers: strings(image.Layers, `/${index}/Layers`).map(entryPath) }
  })
}

function fullName(name: string, pointer: string): string {
  try {
    return formatReference(parseReference(name))
  } catch (cause) {
    if (!(cause instanceof InvalidReferenceError)) throw cause
    throw new SpecError('manifest.json', [{ pointer, message: cause.message }], { cause })
  }
}

/**
 * Makes the manifests that the images of a Docker archive would have as OCI images; the same archive
 * makes the same manifests. Configs and layers stay as they are, byte by byte.
 */
export async function readDockerImages(images: readonly DockerImage[], files: DockerFiles): Promise<DockerContent> {
  const entries: Descriptor[] = []
  const documents = new Map<Digest, Uint8Array>()
  for (const image of images) {
    const config = await files.config(image.config)
    assertImageId(image.config, config)
    const { rootfs } = parseImageConfig(config, mediaType.ociConfig).value
    assertLayerCount(image, rootfs.diff_ids)
    const layers: Descriptor[] = []
    for (const [index, path] of image.layers.entries()) {
      const diffId = rootfs.diff_ids[index] as Digest
      const { digest, size, compression } = await files.layer(path, diffId)
      if (compression === 'none' && digest !== diffId) throw new DigestMismatchError(diffId, digest)
      layers.push({ mediaType: layerTypes[compression], digest, size })
    }
    const described = descriptorOf(mediaType.ociConfig, config)
    const document = { schemaVersion: 2, mediaType: mediaType.ociManifest, config: described, layers }
    const raw = Buffer.from(JSON.stringify(document))
    const manifest = descriptorOf(mediaType.ociManifest, raw)
    documents.set(described.digest, config)
    documents.set(manifest.digest, raw)
    if (image.names.length === 0) entries.push(manifest)
    for (const name of image.names) entries.push(withName(manifest, name))
  }
  return { entries, documents }
}

/** A config is named by its digest, which is the id of the image: another content there is another image. */
function assertImageId(path: string, config: Uint8Array): void {
  const [hex] = /(?<![^/])[0-9a-f]{64}(?=(?:\.json)?$)/.exec(path) ?? []
  const actual = digestOf(config)
  if (hex !== undefined && actual !== `sha256:${hex}`) throw new DigestMismatchError(`sha256:${hex}`, actual)
}

/** An image for `manifest.json`. */
export interface SavedImage {
  /** Path of its config in the archive. */
  readonly config: string
  readonly layers: readonly string[]
  /** Names it was given; those that Docker could not give are left out. */
  readonly names: readonly string[]
}

/** The `manifest.json` that lets Docker load the images. */
export function formatDockerManifest(images: readonly SavedImage[]): string {
  const list = images.map(({ config, layers, names }) => {
    const tags = names.flatMap((name) => dockerTag(name) ?? [])
    return { Config: config, RepoTags: tags.length === 0 ? null : tags, Layers: layers }
  })
  return JSON.stringify(list)
}

/** In full: podman takes a short name for one of its own. */
function dockerTag(name: string): string | undefined {
  try {
    const reference = parseReference(name)
    return reference.tag === undefined || reference.digest !== undefined ? undefined : formatReference(reference)
  } catch {
    return undefined
  }
}

/** @throws ArchiveError always: for what is neither kind of archive. */
export function refuseArchive(isLegacy: boolean): never {
  const hint = isLegacy
    ? 'It was made by a Docker older than 1.10, without a file manifest.json: load it there and save it again.'
    : 'An OCI archive has the files oci-layout and index.json, a Docker archive the file manifest.json.'
  throw new ArchiveError('it is no archive of images', undefined, { hint })
}
