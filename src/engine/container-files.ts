import { stat } from 'node:fs/promises'
import { basename, dirname, posix, resolve } from 'node:path'
import { Readable, type Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { ConflictError, InvalidArgumentError, NotFoundError, SyscallError } from '../errors.ts'
import { fileError, hasCode } from '../internal/file-error.ts'
import { inTurn } from '../internal/in-turn.ts'
import { quote } from '../internal/text.ts'
import { ownership } from '../layer/apply/target.ts'
import { decompress } from '../layer/decompress.ts'
import { withContent, writeLayer } from '../layer/diff/layer-stream.ts'
import { openTree } from '../layer/diff/open-tree.ts'
import { decodeStatx, type NodeType, STATX_BASIC_STATS, statxSize } from '../layer/diff/tree-node.ts'
import { TreeReader } from '../layer/diff/tree-reader.ts'
import { treeEntries } from '../layer/diff/trees.ts'
import type { WalkOptions } from '../layer/diff/walk.ts'
import { extractArchive } from '../layer/extract/extract.ts'
import { out } from '../linux/call.ts'
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  chroot,
  close,
  fchdir,
  O,
  O_DIRECTORY,
  openat2,
  RESOLVE,
  statx,
} from '../linux/calls/files.ts'
import type { Remote } from '../linux/remote/remote.ts'
import { runWalk } from '../linux/walk.ts'
import { type ContainerRoot, marksOf, openCopied, openRoot, openUpper, stacked } from './container-root.ts'
import { type FileChange, fileChanges, treeChanges } from './file-changes.ts'
import type { Runner } from './runner.ts'

/** How files are copied into a container, or out of it. */
export interface CopyFilesOptions {
  /**
   * Whether owners are kept. Default for a tar archive; without it what is copied in belongs to root, what is copied out to
   * the user of this process, without devices, set-user-ID and set-group-ID bits and file capabilities.
   */
  readonly archive?: boolean | undefined
  /** Aborting rejects with `signal.reason`; what has been copied stays. */
  readonly signal?: AbortSignal | undefined
}

/** What the container has changed. */
export async function* containerChanges(runner: Runner): AsyncGenerator<FileChange, void, undefined> {
  const root = await runner.root()
  const copied = await openCopied(root)
  if (copied !== undefined) {
    try {
      yield* treeChanges(copied.before, copied.after)
    } finally {
      await copied.close()
    }
    return
  }
  const ids = process.geteuid?.() === 0 ? undefined : root.ids
  const { lower } = root.layer
  const upper = await openUpper(root)
  try {
    const image = lower.length === 0 ? undefined : await TreeReader.open(await stacked({ lower }, ids))
    try {
      yield* fileChanges(upper, image, marksOf(root))
    } finally {
      await image?.close()
    }
  } finally {
    await upper.close()
  }
}

/** The container's root file system as a tar archive, without what is mounted in it. */
export async function exportContainer(runner: Runner): Promise<Readable> {
  await runner.root() // fails at once when it has been removed
  return Readable.from(piecesOfRoot(runner), { objectMode: false })
}

async function* piecesOfRoot(runner: Runner): AsyncGenerator<Buffer, void, undefined> {
  // Not before it is read: nobody closes what a stream holds that is never read, or destroyed before.
  const reader = await TreeReader.open(await openRoot(await runner.root(), 'read'))
  try {
    const device = deviceOf((await reader.root()).inode)
    yield* piecesOf(reader, { enter: ({ inode }) => deviceOf(inode) === device })
  } finally {
    await reader.close()
  }
}

function deviceOf(inode: string): string {
  return inode.slice(0, inode.lastIndexOf(':'))
}

/** An archive of a tree, in pieces. */
function piecesOf(reader: TreeReader, options: WalkOptions): AsyncGenerator<Buffer, void, undefined> {
  return writeLayer(withContent(reader, treeEntries(reader, options)))
}

/** Copies out of a container; see `Container.copyOut`. */
export async function copyOut(
  runner: Runner,
  path: string,
  target: string | Writable,
  { archive = false, signal }: CopyFilesOptions,
): Promise<void> {
  signal?.throwIfAborted()
  const remote = await openRoot(await runner.root(), 'read')
  const source = await openSource(remote, path).catch(async (error: unknown) => {
    await remote.close()
    throw error
  })
  const { reader, from, isDirectory } = source
  try {
    if (typeof target !== 'string') {
      await pipeline(piecesOf(reader, { from }), target, signal === undefined ? {} : { signal })
      return
    }
    const place = await hostPlace(target, from, isDirectory)
    const rights = await ownership()
    const singleOwner = rights.singleOwner || !archive
    const into = await openTree(place.directory)
    try {
      await extractArchive(piecesOf(reader, { from }), into.process, {
        directory: '',
        rename: renaming(from, place.name),
        userNamespace: rights.userNamespace,
        singleOwner,
        // Without their owners they would be rights of this user's, given by a container.
        withoutRights: !archive,
        ids: rights.ids,
        signal,
      })
    } finally {
      await into.close()
    }
  } finally {
    await reader.close()
  }
}

/** Copies into a container; see `Container.copyIn`. */
export async function copyIn(
  runner: Runner,
  source: string | Readable,
  path: string,
  options: CopyFilesOptions,
): Promise<void> {
  options.signal?.throwIfAborted()
  const root = await runner.root()
  const copied = (): Promise<void> => copyInto(root, source, path, options)
  await (root.pid === undefined ? inTurn(root.layer.upper, options.signal, copied) : copied())
}

async function copyInto(
  root: ContainerRoot,
  source: string | Readable,
  path: string,
  { archive = typeof source !== 'string', signal }: CopyFilesOptions,
): Promise<void> {
  const remote = await openRoot(root, 'change')
  try {
    const common = {
      ...(archive ? {} : { owner: { uid: 0, gid: 0 } }),
      userNamespace: root.ids !== undefined,
      singleOwner: false,
      ids: root.ids,
      signal,
    }
    const target = absolute(path)
    const found = await typeAt(remote, target)
    if (typeof source !== 'string') {
      if (found !== 'directory') throw notDirectory(path, found)
      await extractArchive(decompress(source), remote, { ...common, directory: bytesOf(target) })
      return
    }
    const { reader, from, isDirectory } = await openHostSource(source)
    try {
      const place = await placeFor(
        { target, path, found, parent: await typeAt(remote, dirname(target)) },
        from,
        isDirectory,
      )
      const rename = renaming(from, place.name)
      await extractArchive(piecesOf(reader, { from }), remote, {
        ...common,
        directory: bytesOf(place.directory),
        rename,
      })
    } finally {
      await reader.close()
    }
  } finally {
    await remote.close()
  }
}

interface Source {
  readonly reader: TreeReader
  /** What is copied, in the tree; empty for what is in its root. */
  readonly from: string
  readonly isDirectory: boolean
}

/** Makes the directory that has `path` the root of the process; with `/.` at its end, or `/`, the path itself. */
async function openSource(remote: Remote, path: string): Promise<Source> {
  const clean = absolute(path)
  const contents = clean === '/' || /\/\.?$/.test(path)
  const opened = openIn(contents ? clean : dirname(clean), O.RDONLY | O_DIRECTORY, path)
  await runWalk(remote, [opened, fchdir(opened), chroot('.'), close(opened)]).catch((error: unknown) => {
    throw isMissing(error) ? missing(path) : error
  })
  const reader = await TreeReader.open(remote)
  if (contents) return { reader, from: '', isDirectory: true }
  const from = bytesOf(basename(clean))
  const node = await reader.node(from)
  if (node === undefined) throw missing(path)
  return { reader, from, isDirectory: node.type === 'directory' }
}

async function openHostSource(source: string): Promise<Source> {
  const clean = resolve(source)
  const contents = clean === '/' || /\/\.?$/.test(source)
  try {
    const reader = await openTree(contents ? clean : dirname(clean))
    if (contents) return { reader, from: '', isDirectory: true }
    const from = bytesOf(basename(clean))
    const node = await reader.node(from)
    if (node !== undefined) return { reader, from, isDirectory: node.type === 'directory' }
    await reader.close()
  } catch (error) {
    if (!isMissing(error)) throw error
  }
  throw new NotFoundError(source, `there is no ${quote(source)} to copy`)
}

interface Place {
  readonly directory: string
  /** Name that it gets there; empty for the content of a directory. */
  readonly name: string
}

interface Target {
  readonly target: string
  /** As it was given. */
  readonly path: string
  readonly found: NodeType | undefined
  /** What is above it. */
  readonly parent: NodeType | undefined
}

/** Where something goes, as with `docker cp`: into a directory, else to the name itself. */
function placeFor({ target, path, found, parent }: Target, from: string, isDirectory: boolean): Place {
  if (found === 'directory') return { directory: target, name: from }
  if (found !== undefined && isDirectory) throw notDirectory(path, found)
  if (found === undefined && /\/$/.test(path) && !isDirectory) throw missing(path)
  if (parent !== 'directory') throw parent === undefined ? missing(dirname(path)) : notDirectory(dirname(path), parent)
  return { directory: dirname(target), name: bytesOf(basename(target)) }
}

async function hostPlace(path: string, from: string, isDirectory: boolean): Promise<Place> {
  const target = resolve(path)
  const [found, parent] = await Promise.all([hostType(target), hostType(dirname(target))])
  const place = placeFor({ target, path, found, parent }, from, isDirectory)
  return place
}

async function hostType(path: string): Promise<NodeType | undefined> {
  try {
    return (await stat(path)).isDirectory() ? 'directory' : 'file'
  } catch (error) {
    if (hasCode(error, 'ENOENT') || hasCode(error, 'ENOTDIR')) return undefined
    throw fileError(error, 'looking at', path)
  }
}

/** What a path leads to, through symlinks. */
async function typeAt(remote: Remote, path: string): Promise<NodeType | undefined> {
  const result = out(statxSize)
  const opened = openIn(path, O.PATH, path)
  try {
    const seen = statx(opened, '', AT_EMPTY_PATH, STATX_BASIC_STATS, result)
    return decodeStatx((await runWalk(remote, [opened, seen, close(opened)])).bytes(result)).type
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}

function openIn(path: string, flags: number, subject: string): ReturnType<typeof openat2> {
  const resolve = RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS
  return { ...openat2(AT_FDCWD, path, { flags, resolve }, { step: `find ${subject} in the container` }) }
}

/** Names below `from` become names below `to`. */
function renaming(from: string, to: string): (name: string) => string | undefined {
  if (from === '') return (name) => (to === '' ? name : name === '' ? to : `${to}/${name}`)
  return (name) => (name === from ? to : name.startsWith(`${from}/`) ? to + name.slice(from.length) : undefined)
}

function absolute(path: string): string {
  if (typeof path !== 'string' || path === '' || path.includes('\0')) {
    throw new InvalidArgumentError('a path in the container must be given', { subject: 'path' })
  }
  return posix.resolve('/', path)
}

/** Paths are bytes, one character each. */
function bytesOf(path: string): string {
  return Buffer.from(path.replace(/^\/+/, '')).toString('latin1')
}

function isMissing(error: unknown): boolean {
  return error instanceof SyscallError && ['ENOENT', 'ENOTDIR', 'ELOOP'].includes(error.errnoName)
}

function missing(path: string): NotFoundError {
  return new NotFoundError(path, `there is no ${quote(path)}`)
}

function notDirectory(path: string, found: NodeType | undefined): Error {
  if (found === undefined) return missing(path)
  return new ConflictError(path, `${quote(path)} is not a directory, but a ${found}`)
}
