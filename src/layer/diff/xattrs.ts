import { foreignXattrs, overlayPrefixes } from '../apply/xattrs.ts'
import type { Xattr } from '../tar/entry.ts'

/**
 * Where a tree has overlayfs' marks: in attributes `trusted.overlay.…`, or `user.overlay.…` in a user namespace. Unpacked layers
 * have none but those of whoever has unpacked them, so that either counts there.
 */
export type OverlayMarks = 'trusted' | 'user' | 'either'

/** The value of one of overlayfs' marks; undefined when the node does not have it. */
export function overlayMark(xattrs: readonly Xattr[], mark: string, marks: OverlayMarks): string | undefined {
  return xattrs.find(({ name }) => prefixesOf(marks).some((prefix) => name === prefix + mark))?.value.toString('latin1')
}

/** Whether an attribute has no place in an archive: the keyword of a record ends at the first equals sign. */
export function cannotBeNamed({ name }: Xattr): boolean {
  return name.includes('=')
}

/**
 * The attributes of a node as they belong into a layer: without labels and ACLs of this machine, with file
 * capabilities as they are outside of a user namespace. Where the tree has overlayfs' marks (`marks`), those
 * are left out, and what was escaped when the layer was applied gets its name back.
 */
export function imageXattrs(xattrs: readonly Xattr[], marks: OverlayMarks | undefined): readonly Xattr[] {
  if (xattrs.length === 0) return xattrs
  return xattrs.flatMap((xattr) => {
    const { name, value } = xattr
    if (foreignXattrs.has(name) || cannotBeNamed(xattr)) return []
    const original = marks === undefined ? name : unescaped(name, marks)
    if (original === undefined) return []
    return [portableCapability({ name: original, value })]
  })
}

/** Undefined for a mark of overlayfs. */
function unescaped(name: string, marks: OverlayMarks): string | undefined {
  for (const prefix of overlayPrefixes) {
    const mark = `${prefix}overlay.`
    if (name.startsWith(mark)) return prefix + name.slice(mark.length)
  }
  return prefixesOf(marks).some((prefix) => name.startsWith(prefix)) ? undefined : name
}

function prefixesOf(marks: OverlayMarks): readonly string[] {
  return marks === 'either' ? overlayPrefixes : [`${marks}.overlay.`]
}

const revisionMask = 0xff000000
const revision2 = 0x02000000
const revision3 = 0x03000000
/** Bytes of struct vfs_cap_data, and of vfs_ns_cap_data, which has the uid of a namespace's root behind it. */
const size2 = 20
const size3 = 24

/** A file capability for the user namespace whose root is `root` on the host: one of version 2 has no effect there. */
export function rootedCapability(xattr: Xattr, root: () => number): Xattr {
  const { name, value } = xattr
  if (name !== 'security.capability' || value.length !== size2) return xattr
  const magic = value.readUInt32LE(0)
  if ((magic & revisionMask) >>> 0 !== revision2) return xattr
  const rooted = Buffer.alloc(size3)
  value.copy(rooted)
  rooted.writeUInt32LE(((magic & ~revisionMask) | revision3) >>> 0, 0)
  rooted.writeUInt32LE(root(), size2)
  return { name, value: rooted }
}

/** A file capability without the root of the user namespace it was set in, an id of this machine, which version 3 names. */
export function portableCapability(xattr: Xattr): Xattr {
  const { name, value } = xattr
  if (name !== 'security.capability' || value.length !== size3) return xattr
  const magic = value.readUInt32LE(0)
  if ((magic & revisionMask) >>> 0 !== revision3) return xattr
  const converted = Buffer.from(value.subarray(0, size2))
  converted.writeUInt32LE(((magic & ~revisionMask) | revision2) >>> 0, 0)
  return { name, value: converted }
}
