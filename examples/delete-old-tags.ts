/**
 * Deletes all but the newest tags of a repository, by the time at which their images were made. Without
 * `--yes` it only says what it would do.
 *
 *     npx tsx examples/delete-old-tags.ts registry.example.com/nightly 14 --yes
 */
import { readAll } from 'oci-ts/content'
import { openRepository } from 'oci-ts/distribution'
import { type Descriptor, parseImageConfig, parseIndex, parseManifest } from 'oci-ts/image'

const [name = '', count = ''] = process.argv.slice(2)
const keep = Number(count)
if (name === '' || !Number.isInteger(keep) || keep < 1) {
  console.error('usage: delete-old-tags.ts REPOSITORY KEEP [--yes]')
  process.exit(2)
}
const repository = openRepository(name)

/** When an image was made; of an index, its first image. What does not say is taken for new, and stays. */
async function created(descriptor: Descriptor): Promise<number> {
  const raw = await readAll(repository, descriptor, 4 << 20)
  if (/index|list/.test(descriptor.mediaType)) {
    const [first] = parseIndex(raw, descriptor.mediaType).value.manifests
    return first === undefined ? Number.POSITIVE_INFINITY : created(first)
  }
  const { config } = parseManifest(raw, descriptor.mediaType).value
  const image = parseImageConfig(await readAll(repository, config, 8 << 20)).value
  return image.created === undefined ? Number.POSITIVE_INFINITY : Date.parse(image.created)
}

const tags: { readonly tag: string; readonly descriptor: Descriptor; readonly time: number }[] = []
for await (const tag of repository.tags()) {
  const descriptor = await repository.resolve(tag)
  tags.push({ tag, descriptor, time: await created(descriptor) })
}
tags.sort((a, b) => b.time - a.time)
const kept = new Set(tags.slice(0, keep).map(({ descriptor }) => descriptor.digest))
for (const { tag, descriptor } of tags.slice(keep)) {
  console.log(tag, descriptor.digest)
  if (!process.argv.includes('--yes')) continue
  // An image that a newer tag names, too, stays; where a registry deletes no single tags, so does this one.
  if (kept.has(descriptor.digest)) await repository.untag(tag)
  else await repository.delete(descriptor).catch(ignoreGone)
}

/** Two of the tags may have named the same image. */
function ignoreGone(error: unknown): void {
  if (!(error instanceof Error && 'code' in error && error.code === 'ERR_OCI_NOT_FOUND')) throw error
}
