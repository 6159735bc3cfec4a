import type { SpecIssue } from '../errors.ts'
import type { Descriptor } from './descriptor.ts'
import { isIndexType, mediaType } from './media-type.ts'
import {
  assertValid,
  type Document,
  dropDescriptorNulls,
  embeddedIssues,
  type Parsed,
  parseDocument,
  statedMediaType,
} from './parsed.ts'
import { validateIndex } from './validators.generated.ts'

/** An image index: image-spec (image-index.md) or a Docker manifest list. */
export interface ImageIndex {
  readonly schemaVersion: 2
  readonly mediaType?: string
  readonly artifactType?: string
  /** At most 10,000; may be empty. */
  readonly manifests: readonly Descriptor[]
  /** Another manifest that this index is about; no part of it. */
  readonly subject?: Descriptor
  readonly annotations?: Readonly<Record<string, string>>
}

/**
 * Parses an image index. `type` is the media type it was delivered as, as for `parseManifest`.
 * @throws SpecError with every fault: no JSON, duplicate names, what the schema demands, a manifest
 * instead of an index or both at once (CVE-2021-41190), `data` that is not what its descriptor says.
 */
export function parseIndex(raw: Uint8Array, type?: string): Parsed<ImageIndex> {
  return asIndex(raw, parseDocument(raw, 'image index', ['manifests']), type)
}

/** {@link parseIndex} of what has been read as JSON already. */
export function asIndex(raw: Uint8Array, document: Document, type: string | undefined): Parsed<ImageIndex> {
  const { members } = document
  const stated = statedMediaType(document, type) ?? mediaType.ociIndex
  const issues: SpecIssue[] = []
  if (!isIndexType(stated)) issues.push({ pointer: '/mediaType', message: 'must be the type of an image index' })
  for (const name of ['config', 'layers', 'fsLayers']) {
    if (name in members) issues.push({ pointer: `/${name}`, message: 'must not be in an image index' })
  }
  const { manifests, subject } = members
  for (const descriptor of [subject, ...(Array.isArray(manifests) ? manifests : [])]) dropDescriptorNulls(descriptor)
  assertValid(document, validateIndex, issues)
  // The schema has just said so.
  const value = members as unknown as ImageIndex
  const pointers = value.manifests.map((descriptor, index) => [`/manifests/${index}`, descriptor] as const)
  assertValid(document, () => true, embeddedIssues(pointers))
  return { raw, value, mediaType: stated }
}
