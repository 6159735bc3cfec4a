import type { NamedDescriptor } from '../content/layout.ts'
import { ConflictError, InvalidArgumentError } from '../errors.ts'
import { quote } from '../internal/text.ts'
import { type Collected, collectGarbage, type GarbageContext, type Release, type StoreView } from './garbage.ts'
import { imageById } from './image-by-id.ts'
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
  const digest = named?.descriptor.digest ?? (await imageById(view, wanted)).digest
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
