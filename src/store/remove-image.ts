import type { NamedDescriptor } from '../content/layout.ts'
import { ConflictError, InvalidArgumentError, NotFoundError } from '../errors.ts'
import type { Digest } from '../image/digest.ts'
import { isDigest } from '../image/digest.ts'
import { quote } from '../internal/text.ts'
import { type Collected, collectGarbage, type GarbageContext, type Release, type StoreView } from './garbage.ts'
import { imagesOf, readable } from './images.ts'
import { usersOf } from './in-use.ts'

/** How an image is removed. */
export interface RemoveImageOptions {
  /**
   * Also when containers use it, or it has several names and is given by its id: all its names go. What
   * containers are made of stays until they are removed. Default false.
   */
  readonly force?: boolean | undefined
  readonly signal?: AbortSignal | undefined
}

/** What removing an image did. */
export interface RemovedImage extends Collected {
  /** Names that are gone. */
  readonly untagged: readonly string[]
  /** Whether the image is gone, or has only lost a name. */
  readonly deleted: boolean
}

/**
 * Removes an image by the rules of Docker: by a name it loses that name, and goes with the last one; by its id,
 * digest or the beginning of one it goes when it has one name at most.
 */
export async function removeImage(
  context: GarbageContext,
  wanted: string,
  { force = false, signal }: RemoveImageOptions,
): Promise<RemovedImage> {
  if (wanted === '') throw new InvalidArgumentError('an image must be given by name, id or digest')
  let chosen: Choice | undefined
  const collected = await collectGarbage(
    context,
    async (view): Promise<Release> => {
      chosen = await choose(view, wanted, force)
      return { entries: new Set(chosen.entries) }
    },
    { onlyReleased: true, grace: 0, dryRun: false, signal },
  )
  const { entries = [], deleted = false } = chosen ?? {}
  return {
    ...collected,
    deleted,
    untagged: entries.flatMap(({ reference }) => (reference === undefined ? [] : [reference])),
  }
}

interface Choice {
  readonly entries: readonly NamedDescriptor[]
  readonly deleted: boolean
}

async function choose(view: StoreView, wanted: string, force: boolean): Promise<Choice> {
  const named = view.entries.find(({ reference }) => reference === wanted)
  const digest = named?.descriptor.digest ?? (await byId(view, wanted))
  const same = view.entries.filter(({ descriptor }) => descriptor.digest === digest)
  if (named !== undefined && same.some(({ reference }) => reference !== undefined && reference !== wanted)) {
    return { entries: [named], deleted: false }
  }
  const names = same.flatMap(({ reference }) => (reference === undefined ? [] : [reference]))
  if (names.length > 1 && !force) {
    throw new ConflictError(wanted, `image ${quote(wanted)} has several names: ${names.join(', ')}`, {
      hint: 'Remove it by its names, or with force.',
    })
  }
  const images = await readable(async () =>
    (await Promise.all(same.map((entry) => imagesOf(view.graph, entry)))).flat(),
  )
  const users = usersOf(images, view.containers)
  if (users.length > 0 && !force) {
    throw new ConflictError(wanted, `image ${quote(wanted)} is used by ${listOf(users)}`, {
      hint: 'Remove the containers first, or remove the image with force: what they are made of then stays until they go.',
    })
  }
  return { entries: same, deleted: true }
}

function listOf(users: readonly string[]): string {
  const more = users.length > 3 ? ` and ${users.length - 3} more` : ''
  return `container ${users
    .slice(0, 3)
    .map((id) => id.slice(0, 12))
    .join(', ')}${more}`
}

/** Digest of the entry whose digest, manifest or config `wanted` is, or begins. */
async function byId({ entries, graph }: StoreView, wanted: string): Promise<Digest> {
  const found = new Set<Digest>()
  for (const entry of entries) {
    const images = await readable(() => imagesOf(graph, entry))
    const ids = images.flatMap(({ descriptor, manifest }) => [descriptor.digest, manifest.config.digest])
    if ([entry.descriptor.digest, ...ids].some((id) => begins(id, wanted))) found.add(entry.descriptor.digest)
  }
  const [first, ...others] = found
  if (first === undefined) throw new NotFoundError(wanted, `there is no image ${quote(wanted)}`)
  if (others.length === 0) return first
  // In full it is the very thing when it is what an entry names, and ambiguous when it is part of several.
  const exact = [...found].find((digest) => digest === wanted)
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
