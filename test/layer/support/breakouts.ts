import type { TestEntry } from './tar.ts'

const secret = { type: '2', linkName: '../../sentinel' }

/** Archives that try to reach `sentinel`, beside the directory they are unpacked to, or something in `/tmp`. */
export const breakouts: Readonly<Record<string, readonly TestEntry[]>> = {
  'an absolute name': [{ name: '/sentinel/file', content: 'evil' }],
  'dots in a name': [{ name: '../sentinel/file', content: 'evil' }],
  'dots behind a directory': [
    { name: 'a/', type: '5' },
    { name: 'a/../../sentinel/file', content: 'evil' },
  ],
  'many dots': [{ name: `${'../'.repeat(20)}sentinel/file`, content: 'evil' }],
  'a symlink out, then a file through it': [
    { name: 'l', ...secret },
    { name: 'l/file', content: 'evil' },
  ],
  'an absolute symlink, then a file through it': [
    { name: 'l', type: '2', linkName: '/tmp' },
    { name: 'l/oci-ts-evil', content: 'evil' },
  ],
  'a chain of symlinks': [
    { name: 'a', type: '2', linkName: '..' },
    { name: 'b', type: '2', linkName: 'a/..' },
    { name: 'c', type: '2', linkName: 'b/sentinel' },
    { name: 'c/file', content: 'evil' },
  ],
  'a symlink, then a directory over it, then a file': [
    { name: 'l', ...secret },
    { name: 'l/', type: '5', mode: 0o777 },
    { name: 'l/file', content: 'evil' },
  ],
  'a file over a symlink': [
    { name: 'l', type: '2', linkName: '../../sentinel/file' },
    { name: 'l', content: 'evil' },
  ],
  'a hard link by dots': [{ name: 'h', type: '1', linkName: '../sentinel/file' }],
  'a hard link by an absolute name': [{ name: 'h', type: '1', linkName: '/etc/passwd' }],
  'a hard link through a symlink, then written': [
    { name: 'l', ...secret },
    { name: 'h', type: '1', linkName: 'l/file' },
    { name: 'h', content: 'evil' },
  ],
  'a hard link to a symlink, then attributes': [
    { name: 'l', type: '2', linkName: '../../sentinel/file' },
    { name: 'h', type: '1', linkName: 'l', mode: 0o777, uid: 1 },
  ],
  'a root that is a symlink': [
    { name: '.', ...secret },
    { name: 'file', content: 'evil' },
  ],
  'a root that is a symlink by slash': [
    { name: './', ...secret },
    { name: 'file', content: 'evil' },
  ],
  'a root that is a device': [{ name: '/', type: '3', device: [1, 3] }],
  'a root that is a file': [{ name: '././', type: '0' }],
  'attributes through a symlink': [{ name: 'l', ...secret, mode: 0o777, uid: 1000, mtime: 1 }],
  'extended attributes through a symlink': [{ name: 'l', ...secret, pax: { 'SCHILY.xattr.user.evil': 'x' } }],
  'a whiteout of the parent': [{ name: '.wh...' }],
  'a whiteout of the directory': [{ name: 'd/.wh..' }],
  'a whiteout through a symlink': [{ name: 'l', ...secret }, { name: 'l/.wh.file' }],
  'an opaque whiteout through a symlink': [{ name: 'l', ...secret }, { name: 'l/.wh..wh..opq' }],
  'a whiteout by dots': [{ name: '../sentinel/.wh.file' }],
  'a directory through a symlink': [
    { name: 'l', ...secret },
    { name: 'l/new/', type: '5', mode: 0o777 },
  ],
  'a symlink through a symlink': [
    { name: 'l', ...secret },
    { name: 'l/evil', type: '2', linkName: 'x' },
  ],
  'a fifo through a symlink': [
    { name: 'l', ...secret },
    { name: 'l/evil', type: '6' },
  ],
  'a symlink to /proc': [
    { name: 'p', type: '2', linkName: '/proc/self/cwd' },
    { name: 'p/../../../sentinel/file', content: 'evil' },
    { name: 'p/file', content: 'evil' },
  ],
  'a symlink to the directory of descriptors': [
    { name: 'p', type: '2', linkName: '/proc/1/root' },
    { name: 'p/sentinel/file', content: 'evil' },
  ],
  'a replaced directory': [
    { name: 'd/e/f', content: 'x' },
    { name: 'd', type: '2', linkName: '../../sentinel' },
    { name: 'd/e', content: 'evil' },
    { name: 'd/file', content: 'evil' },
  ],
  'names in PAX and GNU headers': [
    { name: 'x', pax: { path: '../sentinel/file' }, content: 'evil' },
    { name: 'L', type: 'L', content: '../sentinel/file\0' },
    { name: 'x', content: 'evil' },
  ],
  'a link target in PAX headers': [{ name: 'h', type: '1', pax: { linkpath: '../sentinel/file' } }],
  'a loop of symlinks': [
    { name: 'a', type: '2', linkName: 'a' },
    { name: 'a/b', content: 'x' },
  ],
  'a device with rights for all': [{ name: 'mem', type: '3', device: [1, 1], mode: 0o666 }],
  'a file through a symlink to its parent': [
    { name: 'l', type: '2', linkName: '..' },
    { name: 'l/sentinel/file', content: 'evil' },
  ],
  'a symlink of many dots': [
    { name: 'l', type: '2', linkName: `${'../'.repeat(40)}tmp` },
    { name: 'l/oci-ts-evil', content: 'evil' },
  ],
  'a symlink with dots in the middle': [
    { name: 'd/', type: '5' },
    { name: 'l', type: '2', linkName: 'd/../../sentinel' },
    { name: 'l/file', content: 'evil' },
  ],
  'a symlink to itself through dots': [
    { name: 'd/l', type: '2', linkName: '../d/../../sentinel' },
    { name: 'd/l/file', content: 'evil' },
  ],
  'a symlink whose target is made a symlink later': [
    { name: 'a', type: '2', linkName: 'b/file' },
    { name: 'b', ...secret },
    { name: 'a', content: 'evil' },
    { name: 'b/file', content: 'evil' },
  ],
  'a directory that becomes a symlink and a directory again': [
    { name: 'd/', type: '5' },
    { name: 'd', ...secret },
    { name: 'd/', type: '5', mode: 0o777 },
    { name: 'd', ...secret },
    { name: 'd/file', content: 'evil' },
  ],
  'a name of backslashes': [{ name: '..\\sentinel\\file', content: 'evil' }],
  'a name that ends in dots': [{ name: 'd/..', type: '5', mode: 0o777 }],
  'a name that is dots': [{ name: '..', type: '5', mode: 0o777 }],
  'a name with a dot behind dots': [{ name: '.././sentinel/file', content: 'evil' }],
  'a name of slashes and dots': [{ name: '//..//sentinel//file', content: 'evil' }],
  'a prefix of dots': [{ name: 'file', prefix: '../sentinel', content: 'evil' }],
  'a prefix that is absolute': [{ name: 'oci-ts-evil', prefix: '/tmp', content: 'evil' }],
  'a NUL in a PAX name': [{ name: 'x', pax: { path: Buffer.from('a\0/../../sentinel/file') }, content: 'evil' }],
  'a NUL in a PAX link': [{ name: 'x', type: '2', pax: { linkpath: Buffer.from('a\0b') } }],
  'a name of a sparse file': [
    {
      name: 'x',
      pax: { 'GNU.sparse.major': '1', 'GNU.sparse.name': '../sentinel/file', 'GNU.sparse.realsize': '4' },
      content: `0\n${'\0'.repeat(510)}`,
    },
  ],
  'a symlink by a long link header': [
    { name: 'K', type: 'K', content: `${'../'.repeat(40)}sentinel\0` },
    { name: 'l', type: '2', linkName: 'x' },
    { name: 'l/file', content: 'evil' },
  ],
  'global headers that rename': [
    { name: 'g', type: 'g', content: '27 path=../sentinel/file\n' },
    { name: 'x', content: 'evil' },
  ],
  'a hard link to the root': [{ name: 'h', type: '1', linkName: '/' }],
  'a hard link to nothing': [{ name: 'h', type: '1', linkName: '' }],
  'a hard link to a directory out of reach': [
    { name: 'l', ...secret },
    { name: 'h', type: '1', linkName: 'l' },
    { name: 'h/file', content: 'evil' },
  ],
  'a hard link through a chain': [
    { name: 'a', type: '2', linkName: '..' },
    { name: 'h', type: '1', linkName: 'a/sentinel/file' },
    { name: 'h', content: 'evil' },
  ],
  'a hard link with attributes to a symlink out': [
    { name: 'l', type: '2', linkName: '../../sentinel/file' },
    { name: 'h', type: '1', linkName: 'l', pax: { 'SCHILY.xattr.user.evil': 'x' } },
    { name: 'h', content: 'evil' },
  ],
  'a hard link over a symlink': [
    { name: 'f', content: 'evil' },
    { name: 'l', type: '2', linkName: '../../sentinel/file' },
    { name: 'l', type: '1', linkName: 'f' },
  ],
  'a whiteout of a symlink, then a file': [
    { name: 'l', ...secret },
    { name: '.wh.l' },
    { name: 'l/file', content: 'evil' },
  ],
  'an opaque root and a symlink': [
    { name: '.wh..wh..opq' },
    { name: 'sentinel', ...secret },
    { name: 'sentinel/file', content: 'evil' },
  ],
  'a whiteout of slashes': [{ name: '.wh./../sentinel' }],
  'a whiteout by an absolute name': [{ name: '/sentinel/.wh.file' }],
  'the hard link pool of AUFS': [
    { name: '.wh..wh.plnk/1.2', ...secret },
    { name: '.wh..wh.plnk/1.2/file', content: 'evil' },
    { name: 'x', type: '1', linkName: '.wh..wh.plnk/1.2/file' },
  ],
  'marks of overlayfs': [
    { name: 'd/', type: '5', pax: { 'SCHILY.xattr.trusted.overlay.redirect': '/../sentinel' } },
    { name: 'd/file', content: 'evil', pax: { 'SCHILY.xattr.trusted.overlay.metacopy': '' } },
  ],
  'a block device over a directory': [
    { name: 'd/', type: '5' },
    { name: 'd', type: '4', device: [8, 0], mode: 0o666 },
    { name: 'd/file', content: 'evil' },
  ],
  'a fifo, then content': [
    { name: 'f', type: '6' },
    { name: 'f', content: 'evil' },
  ],
  'a symlink to the root of the process': [
    { name: 'r', type: '2', linkName: '/proc/self/root/../../sentinel' },
    { name: 'r/file', content: 'evil' },
  ],
  'a symlink to what is open': [
    { name: 'r', type: '2', linkName: '/proc/self/fd/3' },
    { name: 'r', content: 'evil' },
    { name: 'r/x', content: 'evil' },
  ],
  'set-user-id on a symlink out': [{ name: 'l', type: '2', linkName: '../../sentinel/file', mode: 0o6777, uid: 0 }],
}
