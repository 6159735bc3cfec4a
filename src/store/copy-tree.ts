import { placeOf } from '../layer/apply/calls.ts'
import type { ByteString } from '../layer/apply/names.ts'
import { foreignXattrs } from '../layer/apply/xattrs.ts'
import { rootDescriptor } from '../layer/diff/tree-calls.ts'
import type { TreeNode } from '../layer/diff/tree-node.ts'
import type { Tree } from '../layer/diff/tree-reader.ts'
import type { Xattr } from '../layer/tar/entry.ts'
import { type Arg, type Call, call } from '../linux/call.ts'
import {
  AT_SYMLINK_NOFOLLOW,
  close,
  fchdir,
  fchmod,
  fchown,
  fsetxattr,
  makeDevice,
  O,
  O_DIRECTORY,
  O_NOFOLLOW,
  RESOLVE,
  S_IFBLK,
  S_IFCHR,
  S_IFIFO,
  utimensat,
} from '../linux/calls/files.ts'

/** How a tree is copied. */
export interface CopyTreeOptions {
  /** Whose the copy of something is. Default: the owner of the original. */
  readonly owners?: OwnerMap | undefined
  /** Whether the tree is seen as it is, so that attributes of overlayfs are the image's own. Default false: they are left out. */
  readonly keepOverlay?: boolean | undefined
  readonly signal?: AbortSignal | undefined
}

/** Translates the ids of owners. @throws UnsupportedError for one that has no counterpart. */
export interface OwnerMap {
  uid(id: number): number
  gid(id: number): number
  /** An extended attribute: file capabilities name the root of a user namespace. */
  xattr(xattr: Xattr): Xattr
}

/** Bytes that one call copies at most (MAX_RW_COUNT). */
const pieceSize = 0x7ffff000
/** Files and directories of one batch: some hundred calls. */
const atOnce = 32
/** They belong to the overlay that the tree is seen through. */
const ofOverlay = /^(trusted|user)\.overlay\./

/**
 * Copies what is in a tree into the directory that is open as `target` in the same process and is empty, and gives that
 * the attributes of the tree's root: content, owners, modes, times, links, devices, extended attributes. The data does
 * not pass through this process. No symlink is followed on either side, whoever puts one there meanwhile. Sockets are
 * left out, and devices that the process may not make.
 * @throws SyscallError
 */
export function copyTree(tree: Tree, target: number, options: CopyTreeOptions = {}): Promise<void> {
  return new TreeCopy(tree, target, options).run()
}

class TreeCopy {
  readonly #tree: Tree
  readonly #target: number
  readonly #options: CopyTreeOptions
  /** Files of several names: the first of them that was copied. */
  readonly #linked = new Map<string, ByteString>()

  constructor(tree: Tree, target: number, options: CopyTreeOptions) {
    this.#tree = tree
    this.#target = target
    this.#options = options
  }

  async run(): Promise<void> {
    const directories = [this.#copyOf(await this.#tree.root())]
    // It grows while it is gone through.
    for (const { path } of directories) {
      const children = (await this.#tree.children(path)).map((node) => this.#copyOf(node))
      const opened = openBeneath(this.#target, path, O.RDONLY | O_DIRECTORY)
      const target = (await this.#run([opened])).value(opened)
      for (const nodes of chunks(children)) await this.#copy(nodes, target)
      await this.#run([close(target)])
      directories.push(...children.filter(({ type }) => type === 'directory'))
    }
    // Last, and from below: what is made in a directory changes its times.
    for (const nodes of chunks(directories.toReversed())) await this.#run(nodes.flatMap((node) => this.#finish(node)))
  }

  async #copy(nodes: readonly TreeNode[], target: number): Promise<void> {
    const calls: Call[] = []
    const files: FileCopy[] = []
    for (const node of nodes) {
      const name = nameOf(node)
      const first = this.#linked.get(node.inode)
      if (node.type !== 'directory' && node.links > 1 && first === undefined) this.#linked.set(node.inode, node.path)
      if (node.type === 'directory') {
        calls.push(call('mkdirat', [target, name, 0o700]))
      } else if (first !== undefined) {
        calls.push(call('linkat', [this.#target, placeOf(first).arg, target, name, 0]))
      } else if (node.type === 'file') {
        const file = fileCopy(node, target, name)
        files.push(file)
        calls.push(...file.calls)
      } else if (node.type === 'symlink') {
        calls.push(...symlinkCopy(node, target, name))
      } else if (node.type !== 'socket') {
        calls.push(...deviceCopy(node, target, name))
      }
    }
    if (calls.length === 0) return
    const results = await this.#run(calls)
    for (const { node, copied } of files) {
      const size = copied.reduce((sum, each) => sum + Math.max(results.value(each), 0), 0)
      if (size < node.size) await this.#copyRest(node, size)
    }
  }

  /** Copies what is behind the first piece of a file that is larger than one call copies. */
  async #copyRest(node: TreeNode, from: number): Promise<void> {
    const read = openBeneath(rootDescriptor, node.source ?? node.path, O.RDONLY | O_NOFOLLOW | O.NONBLOCK)
    const written = openBeneath(this.#target, node.path, O.WRONLY | O_NOFOLLOW | O.NONBLOCK)
    const opened = await this.#run([read, written, call('lseek', [read, from, 0]), call('lseek', [written, from, 0])])
    const [source, target] = [opened.value(read), opened.value(written)]
    for (let at = from; at < node.size; ) {
      const piece = call('sendfile', [target, source, 0, pieceSize])
      const size = (await this.#run([piece])).value(piece)
      if (size === 0) break
      at += size
    }
    await this.#run([utimensat(target, 0, node.mtime, node.mtime), close(source), close(target)])
  }

  #finish(node: TreeNode): readonly Call[] {
    const directory = openBeneath(this.#target, node.path, O.RDONLY | O_DIRECTORY)
    return [directory, ...attributes(node, directory), close(directory)]
  }

  /** A node as the copy is to be. */
  #copyOf(node: TreeNode): TreeNode {
    const { owners, keepOverlay = false } = this.#options
    const xattrs = node.xattrs.filter(({ name }) => !foreignXattrs.has(name) && (keepOverlay || !ofOverlay.test(name)))
    if (owners === undefined) return { ...node, xattrs }
    const [uid, gid] = [owners.uid(node.uid), owners.gid(node.gid)]
    return { ...node, uid, gid, xattrs: xattrs.map((xattr) => owners.xattr(xattr)) }
  }

  #run(calls: readonly Call[]): ReturnType<Tree['process']['run']> {
    this.#options.signal?.throwIfAborted()
    return this.#tree.process.run(calls)
  }
}

interface FileCopy {
  readonly node: TreeNode
  readonly calls: readonly Call[]
  /** Give how many bytes they have copied. */
  readonly copied: readonly Call[]
}

function fileCopy(node: TreeNode, target: number, name: Arg): FileCopy {
  const from = openBeneath(rootDescriptor, node.source ?? node.path, O.RDONLY | O_NOFOLLOW | O.NONBLOCK)
  const to = call('openat', [target, name, O.WRONLY | O.CREAT | O.EXCL | O_NOFOLLOW | O.CLOEXEC, 0o600])
  // Shares the blocks where the file system can; where it can't, the second one finds all still to be copied.
  const shared = call('copy_file_range', [from, 0, to, 0, pieceSize, 0], { tolerate: 'any' })
  const sent = call('sendfile', [to, from, 0, pieceSize])
  const copied = node.size === 0 ? [] : [shared, sent]
  return { node, copied, calls: [from, to, ...copied, ...attributes(node, to), close(from), close(to)] }
}

/** After the content, whose change moves the time. A change of owner takes set-user-ID and capabilities away. */
function attributes({ uid, gid, mode, mtime, xattrs }: TreeNode, fd: Call): readonly Call[] {
  return [
    fchown(fd, uid, gid),
    // A file system need not have attributes of every kind; a user namespace may not set some.
    ...xattrs.map(({ name, value }) => fsetxattr(fd, name, value, 0, { tolerate: 'any' })),
    fchmod(fd, mode),
    utimensat(fd, 0, mtime, mtime),
  ]
}

function symlinkCopy(node: TreeNode, target: number, name: Arg): readonly Call[] {
  const { target: text, uid, gid, mtime } = node
  return [
    call('symlinkat', [Buffer.concat([text, Buffer.alloc(1)]), target, name]),
    call('fchownat', [target, name, uid, gid, AT_SYMLINK_NOFOLLOW]),
    ...xattrsAt(node, target, name),
    timesAt(target, name, mtime),
  ]
}

function deviceCopy(node: TreeNode, target: number, name: Arg): readonly Call[] {
  const type = node.type === 'character' ? S_IFCHR : node.type === 'block' ? S_IFBLK : S_IFIFO
  // An ordinary user has no right to devices, and then there is nothing to give attributes to.
  const missing = { tolerate: 'ENOENT' }
  const device = makeDevice(node.deviceMajor, node.deviceMinor)
  return [
    call('mknodat', [target, name, type | node.mode, device], { tolerate: 'EPERM' }),
    call('fchownat', [target, name, node.uid, node.gid, AT_SYMLINK_NOFOLLOW], missing),
    ...xattrsAt(node, target, name),
    call('fchmodat', [target, name, node.mode], missing),
    { ...timesAt(target, name, node.mtime), ...missing },
  ]
}

/** Of what can't be opened: it is named from its directory. */
function xattrsAt({ xattrs }: TreeNode, directory: number, base: Arg): readonly Call[] {
  if (xattrs.length === 0) return []
  const any = { tolerate: 'any' }
  return [
    fchdir(directory),
    ...xattrs.map(({ name, value }) => call('lsetxattr', [base, name, value, value.length, 0], any)),
  ]
}

function timesAt(directory: number, name: Arg, mtime: TreeNode['mtime']): Call {
  const made = utimensat(directory, '', mtime, mtime, AT_SYMLINK_NOFOLLOW)
  const [, , times = 0, flags = 0] = made.args
  return { ...made, args: [directory, name, times, flags] }
}

function openBeneath(root: number, path: ByteString, flags: number): Call {
  const { arg, text } = placeOf(path)
  const how = Buffer.alloc(24)
  how.writeBigUInt64LE(BigInt(flags | O.CLOEXEC), 0)
  how.writeBigUInt64LE(BigInt(RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS), 16)
  return call('openat2', [root, arg, how, how.length], { path: text })
}

function nameOf({ path }: TreeNode): Arg {
  return placeOf(path.slice(path.lastIndexOf('/') + 1)).arg
}

function* chunks(nodes: readonly TreeNode[]): Generator<readonly TreeNode[], void, void> {
  for (let at = 0; at < nodes.length; at += atOnce) yield nodes.slice(at, at + atOnce)
}
