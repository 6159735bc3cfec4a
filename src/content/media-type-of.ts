import { parseManifestOrIndex } from '../image/manifest.ts'

/** Type of content of which nothing is known. */
export const unknownType = 'application/octet-stream'

/** The type of content by its bytes: what is neither manifest nor index is just bytes. */
export function mediaTypeOf(raw: Uint8Array): string {
  try {
    return parseManifestOrIndex(raw).mediaType
  } catch {
    return unknownType
  }
}
