import { ConflictError } from '../errors.ts'
import { annotation } from '../image/annotations.ts'
import type { Descriptor } from '../image/descriptor.ts'

/** An entry of a layout's `index.json`. */
export interface NamedDescriptor {
  /** The name; undefined for an entry without one. */
  readonly reference: string | undefined
  readonly descriptor: Descriptor
}

/** The name of an entry of `index.json`: the full one that containerd writes, else the short one. */
export function nameOf(entry: Descriptor): string | undefined {
  return entry.annotations?.[annotation.containerdImageName] ?? shortName(entry)
}

function shortName(entry: Descriptor): string | undefined {
  return entry.annotations?.[annotation.refName]
}

/** A name with a slash is a full reference, which containerd looks for under a key of its own. */
export function withName(descriptor: Descriptor, reference: string): Descriptor {
  const full = reference.includes('/') ? { [annotation.containerdImageName]: reference } : {}
  const { annotations } = withoutName(descriptor)
  return { ...descriptor, annotations: { ...annotations, ...full, [annotation.refName]: reference } }
}

/** The descriptor without the name that its entry has. */
export function withoutName(entry: Descriptor): Descriptor {
  const { annotations = {}, ...rest } = entry
  const { [annotation.refName]: _short, [annotation.containerdImageName]: _full, ...others } = annotations
  return Object.keys(others).length === 0 ? rest : { ...rest, annotations: others }
}

/** Entries as they are listed: name and content apart. */
export function listed(entries: readonly Descriptor[]): readonly NamedDescriptor[] {
  return entries.map((entry) => ({ reference: nameOf(entry), descriptor: withoutName(entry) }))
}

/**
 * The entry that a reference names: by its full name first, then by the short one, which several may
 * share, then by its digest. `where` is for the message.
 * @throws ConflictError when it names different contents.
 */
export function findNamed(entries: readonly Descriptor[], reference: string, where: string): Descriptor | undefined {
  const full = entries.filter((entry) => entry.annotations?.[annotation.containerdImageName] === reference)
  const found = full.length > 0 ? full : entries.filter((entry) => shortName(entry) === reference)
  const [first, ...others] = found.length > 0 ? found : entries.filter((entry) => entry.digest === reference)
  if (others.some((entry) => entry.digest !== first?.digest)) {
    throw new ConflictError(reference, `${reference} names ${found.length} different images in ${where}`)
  }
  return first && withoutName(first)
}
