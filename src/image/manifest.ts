import { SpecError, type SpecIssue } from '../errors.ts'
import type { Descriptor } from './descriptor.ts'
import { asIndex, type ImageIndex } from './image-index.ts'
import { isIndexType, isManifestType, mediaType } from './media-type.ts'
import {
  assertValid,
  type Document,
  dropDescriptorNulls,
  embeddedIssues,
  type Parsed,
  parseDocument,
  statedMediaType,
} from './parsed.ts'
import { validateManifest } from './validators.generated.ts'

export type { Parsed } from './parsed.ts'

/** An image manifest: image-spec (manifest.md) or Docker schema 2. */
export interface ImageManifest {
  readonly schemaVersion: 2
  readonly mediaType?: string
  /** Type of an artifact that is no image. */
  readonly artifactType?: string
  readonly config: Descriptor
  /** Bottom layer first; at most 10,000. */
  readonly layers: readonly Descriptor[]
  /** Another manifest that this one is about; no part of it. */
  readonly subject?: Descriptor
  readonly annotations?: Readonly<Record<string, string>>
}

/**
 * Parses an image manifest. `type` is the media type it was delivered as: a Content-Type, parameters
 * allowed, or its descriptor's; it must agree with the manifest's own. Unknown members and media types
 * of the content it names are no faults.
 * @throws SpecError with every fault: no JSON, duplicate names, what the schema demands, an index
 * instead of a manifest or both at once (CVE-2021-41190), `data` that is not what its descriptor says.
 */
export function parseManifest(raw: Uint8Array, type?: string): Parsed<ImageManifest> {
  return asManifest(raw, parseDocument(raw, 'image manifest', ['layers']), type)
}

function asManifest(raw: Uint8Array, document: Document, type: string | undefined): Parsed<ImageManifest> {
  const { members } = document
  const stated = statedMediaType(document, type) ?? mediaType.ociManifest
  const issues: SpecIssue[] = []
  if (!isManifestType(stated)) issues.push({ pointer: '/mediaType', message: 'must be the type of an image manifest' })
  for (const name of ['manifests', 'fsLayers']) {
    if (name in members) issues.push({ pointer: `/${name}`, message: 'must not be in an image manifest' })
  }
  for (const descriptor of descriptorsOf(members)) dropDescriptorNulls(descriptor)
  assertValid(document, validateManifest, issues)
  // The schema has just said so.
  const value = members as unknown as ImageManifest
  assertValid(document, () => true, embeddedIssues(pointers(value)))
  return { raw, value, mediaType: stated }
}

/**
 * Parses a manifest or an index, whichever it is by its media type or, when that is not stated, by
 * its members. Tell them apart with `isIndexType(parsed.mediaType)` or {@link isIndex}.
 * @throws SpecError as {@link parseManifest} does.
 */
export function parseManifestOrIndex(raw: Uint8Array, type?: string): Parsed<ImageManifest> | Parsed<ImageIndex> {
  const document = parseDocument(raw, 'image manifest or index', ['layers', 'manifests'])
  const stated = statedMediaType(document, type)
  const index = stated === undefined ? 'manifests' in document.members : isIndexType(stated)
  if (stated !== undefined && !index && !isManifestType(stated)) {
    const message = `must be the type of an image manifest or index, not ${JSON.stringify(stated)}`
    throw new SpecError(document.name, [{ pointer: '/mediaType', message }])
  }
  return index ? asIndex(raw, document, type) : asManifest(raw, document, type)
}

/** Whether a parsed document is an index. */
export function isIndex(parsed: Parsed<ImageManifest> | Parsed<ImageIndex>): parsed is Parsed<ImageIndex> {
  return isIndexType(parsed.mediaType)
}

/**
 * The content that a manifest or index is made of: config and layers, or manifests, in the order they
 * stand there. Its `subject` is not: that is a link to something else.
 */
export function successors(parsed: Parsed<ImageManifest> | Parsed<ImageIndex>): readonly Descriptor[] {
  return isIndex(parsed) ? parsed.value.manifests : [parsed.value.config, ...parsed.value.layers]
}

/**
 * Checks that a manifest has a layer for each of its config's DiffIDs.
 * @throws SpecError when the numbers differ.
 */
export function assertLayerCount(manifest: { readonly layers: readonly unknown[] }, diffIds: readonly string[]): void {
  if (manifest.layers.length === diffIds.length) return
  const message = `must have one layer for each of the ${diffIds.length} diff_ids of its config, not ${manifest.layers.length}`
  throw new SpecError('image manifest', [{ pointer: '/layers', message }])
}

function descriptorsOf({ config, subject, layers }: Readonly<Record<string, unknown>>): readonly unknown[] {
  return [config, subject, ...(Array.isArray(layers) ? layers : [])]
}

function* pointers({ config, layers }: ImageManifest): Iterable<readonly [string, Descriptor]> {
  yield ['/config', config]
  for (const [index, layer] of layers.entries()) yield [`/layers/${index}`, layer]
}
