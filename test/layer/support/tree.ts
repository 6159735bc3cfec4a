import { createHash } from 'node:crypto'
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { out } from '../../../src/linux/call.ts'
import { lgetxattr, llistxattr } from '../../../src/linux/calls/files.ts'
import { performFor } from '../../../src/linux/local.ts'

/** Everything that can be said of a file system object. */
export interface TreeEntry {
  readonly type: 'file' | 'directory' | 'symlink' | 'other'
  readonly mode: string
  readonly owner: string
  readonly mtime: bigint
  /** Size for a file, device number for a device. */
  readonly size: bigint
  /** Names that are the same file, the first of them; only for what has several names. */
  readonly link: string | undefined
  /** Digest of the content or the target. */
  readonly content: string | undefined
  readonly xattrs: Readonly<Record<string, string>>
}

/** All below `root`, and itself as `.`; names are bytes as latin1. Does not follow links. */
export function tree(root: string): Record<string, TreeEntry> {
  const entries: Record<string, TreeEntry> = {}
  const links = new Map<string, string>()
  const pending = ['.']
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    const path = Buffer.concat([Buffer.from(`${root}/`), Buffer.from(name, 'latin1')])
    const stat = lstatSync(path, { bigint: true })
    const isDirectory = stat.isDirectory()
    const inode = `${stat.dev}:${stat.ino}`
    if (!isDirectory && stat.nlink > 1n && !links.has(inode)) links.set(inode, name)
    entries[name] = {
      type: isDirectory ? 'directory' : stat.isFile() ? 'file' : stat.isSymbolicLink() ? 'symlink' : 'other',
      mode: Number(stat.mode).toString(8),
      owner: `${stat.uid}:${stat.gid}`,
      mtime: stat.mtimeNs,
      size: stat.isFile() ? stat.size : stat.rdev,
      link: isDirectory || stat.nlink === 1n ? undefined : links.get(inode),
      content: stat.isFile()
        ? createHash('sha256').update(readFileSync(path)).digest('hex')
        : stat.isSymbolicLink()
          ? readlinkSync(path, 'latin1')
          : undefined,
      xattrs: xattrs(path),
    }
    if (!isDirectory) continue
    const children = readdirSync(path, 'latin1').sort().reverse()
    for (const child of children) pending.push(name === '.' ? child : `${name}/${child}`)
  }
  return entries
}

/** Extended attributes, values as hex. */
export function xattrs(path: string | Buffer): Record<string, string> {
  // The builders take text; every path of a test is text or harmless.
  const text = typeof path === 'string' ? path : path.toString('utf8')
  if (typeof path !== 'string' && !Buffer.from(text).equals(path)) return {}
  const names = out(65_536)
  const listed = performFor(llistxattr(text, names))
  const found: Record<string, string> = {}
  for (const name of listed.bytes(names).toString('utf8', 0, listed.value).split('\0').slice(0, -1)) {
    const value = out(65_536)
    const got = performFor(lgetxattr(text, name, value))
    found[name] = got.bytes(value).toString('hex', 0, got.value)
  }
  return found
}
