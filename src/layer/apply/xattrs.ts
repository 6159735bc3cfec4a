import type { Call } from '../../linux/call.ts'
import { errnoName, syscallError } from '../../linux/errno.ts'
import type { TarEntryType, Xattr } from '../tar/entry.ts'
import type { ByteString } from './names.ts'
import { nameError } from './names.ts'

/** Longest value that the kernel takes (XATTR_SIZE_MAX). */
const maxValue = 65_536
/** Longest name (XATTR_NAME_MAX). */
const maxName = 255
/** Bytes of all attributes of one entry; far beyond what file systems hold. */
const maxTotal = 4 * maxValue

/** Labels and ACLs that belong to the machine the image was made on. */
export const foreignXattrs: ReadonlySet<string> = new Set(['security.selinux', 'system.nfs4_acl'])

/** Where overlayfs keeps its marks: outside of a user namespace, and inside. */
export const overlayPrefixes: readonly string[] = ['trusted.overlay.', 'user.overlay.']

/**
 * The attributes of an entry as they go on disk. Those that overlayfs would act on are escaped the way
 * overlayfs itself does it (`trusted.overlay.x` becomes `trusted.overlay.overlay.x`): an image must not
 * forge opaque directories, redirects or metadata copies.
 * @throws LayerError for what no file system can hold.
 */
export function storedXattrs(xattrs: readonly Xattr[], entry: ByteString): readonly Xattr[] {
  if (xattrs.length === 0) return xattrs
  let total = 0
  const stored: Xattr[] = []
  for (const { name, value } of xattrs) {
    if (foreignXattrs.has(name)) continue
    total += value.length + name.length
    if (value.length > maxValue || total > maxTotal) throw nameError(entry, `its attribute ${name} is too long`)
    const escaped = escapeOverlay(name)
    if (Buffer.byteLength(escaped) > maxName) throw nameError(entry, 'the name of one of its attributes is too long')
    stored.push({ name: escaped, value })
  }
  return stored
}

function escapeOverlay(name: string): string {
  for (const prefix of overlayPrefixes) {
    if (name.startsWith(prefix)) return `${prefix}overlay.${name.slice(prefix.length)}`
  }
  return name
}

/**
 * Judges the result of setting an attribute: undefined when it is set, a reason when it may be missing.
 * It may where the file system has none of that kind, in a user namespace that may not set it, and for
 * `user.` attributes on what is no file or directory.
 * @throws SyscallError for any other failure.
 */
export function xattrFault(
  made: Call,
  result: number,
  name: string,
  type: TarEntryType,
  userNamespace: boolean,
): string | undefined {
  if (result >= 0) return undefined
  const errno = errnoName(-result)
  const userOnly = name.startsWith('user.') && type !== 'file' && type !== 'directory'
  if (errno === 'ENOTSUP' || errno === 'EOPNOTSUPP') return 'the file system does not support it'
  if (errno === 'EPERM' && (userNamespace || userOnly)) return 'the kernel does not permit it here'
  throw syscallError(made, -result)
}
