import { ConflictError, NotFoundError } from '../errors.ts'
import type { Descriptor } from '../image/descriptor.ts'
import { type Digest, isDigest } from '../image/digest.ts'
import { quote } from '../internal/text.ts'
import type { StoreView } from './garbage.ts'
import { imagesOf, readable } from './images.ts'

/**
 * What the entry stands for whose digest, manifest or config `wanted` is, or begins.
 * @throws NotFoundError. @throws ConflictError when several begin so.
 */
export async function imageById(
  { entries, graph }: Pick<StoreView, 'entries' | 'graph'>,
  wanted: string,
): Promise<Descriptor> {
  const found = new Map<Digest, Descriptor>()
  for (const entry of entries) {
    const images = await readable(() => imagesOf(graph, entry))
    const ids = images.flatMap(({ descriptor, manifest }) => [descriptor.digest, manifest.config.digest])
    if ([entry.descriptor.digest, ...ids].some((id) => begins(id, wanted)))
      found.set(entry.descriptor.digest, entry.descriptor)
  }
  const [first, ...others] = found.values()
  if (first === undefined) throw new NotFoundError(wanted, `there is no image ${quote(wanted)}`)
  if (others.length === 0) return first
  // In full it is the very thing when it is what an entry names, and ambiguous when it is part of several.
  const exact = isDigest(wanted) ? found.get(wanted) : undefined
  if (exact !== undefined) return exact
  throw new ConflictError(wanted, `${quote(wanted)} stands for ${found.size} images`, {
    hint: 'Give a longer part of the id, or the digest or name of one of them.',
  })
}

/** Fewer digits are too easily those of another one. */
const shortest = 4

function begins(digest: Digest, wanted: string): boolean {
  if (isDigest(wanted)) return digest === wanted
  const hex = wanted.startsWith('sha256:') ? wanted.slice('sha256:'.length) : wanted
  return hex.length >= shortest && /^[0-9a-f]+$/.test(hex) && digest.startsWith(`sha256:${hex}`)
}
