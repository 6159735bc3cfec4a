import { mediaType } from './media-type.ts'
import { assertValid, type Parsed, parseDocument } from './parsed.ts'
import { validateLayout } from './validators.generated.ts'

/** The `oci-layout` file of an image layout (image-spec, image-layout.md). */
export interface LayoutHeader {
  readonly imageLayoutVersion: string
}

/** The version that layouts are written in. */
export const layoutVersion = '1.0.0'

/**
 * Parses an `oci-layout` file.
 * @throws SpecError, also for a version other than 1.
 */
export function parseLayoutHeader(raw: Uint8Array): Parsed<LayoutHeader> {
  const document = parseDocument(raw, 'oci-layout file')
  assertValid(document, validateLayout)
  return { raw, value: document.members as unknown as LayoutHeader, mediaType: mediaType.ociLayoutHeader }
}
