import { LimitError } from '../../errors.ts'
import { type Call, type Out, out } from '../../linux/call.ts'
import { AT_FDCWD, close, dup3, getdents64, O, O_DIRECTORY, openat } from '../../linux/calls/files.ts'
import { errnoName, syscallError } from '../../linux/errno.ts'
import type { CallRunner, Results } from '../../linux/runner.ts'
import { type ByteString, bytesToText } from '../apply/names.ts'
import { enterDirectory, openDirectory, placeIn, rootDescriptor, statOf, targetOf } from './tree-calls.ts'
import { decodeNames, decodeStatx, type NodeStat, statxSize, type TreeNode } from './tree-node.ts'
import { readXattrs } from './xattr-reader.ts'

/** A process whose root is a tree; closed when the tree has been read. */
export interface TreeProcess extends CallRunner {
  /** Bytes that one batch may take. */
  readonly capacity: number
  close(): Promise<void>
}

/** A tree that can be read. */
export interface Tree {
  /** What has its files. */
  readonly process: TreeProcess
  /** The root of the tree. */
  root(): Promise<TreeNode>
  /** What `path` names, without following any symlink; undefined when it is not there. */
  node(path: ByteString): Promise<TreeNode | undefined>
  /** What is in a directory, sorted; nothing when the directory has gone away. */
  children(path: ByteString): Promise<readonly TreeNode[]>
  close(): Promise<void>
}

/** What is asked of many names at once, so that a round trip to the process does not show. */
const namesAtOnce = 400
/** Bytes of a directory's names that one call takes. */
const listSize = 128 * 1024
/** Names in one directory; their nodes are in memory at the same time. */
const maxNames = 2_000_000
/** Longest target of a symlink (PATH_MAX). */
const targetSize = 4096
const noTarget = Buffer.alloc(0)

/**
 * Reads a tree that others may be changing: a name that goes away between two looks is left out, and none leads
 * out of the tree. Names come in the order of their bytes, so that the same tree is always read the same way.
 */
export class TreeReader implements Tree {
  readonly process: TreeProcess

  private constructor(process: TreeProcess) {
    this.process = process
  }

  /** Takes over `process`, whose root is the tree. */
  static async open(process: TreeProcess): Promise<TreeReader> {
    try {
      const root = openat(AT_FDCWD, '/', O.PATH | O_DIRECTORY)
      await process.run([root, dup3(root, rootDescriptor, O.CLOEXEC), close(root)])
      return new TreeReader(process)
    } catch (error) {
      await process.close()
      throw error
    }
  }

  close(): Promise<void> {
    return this.process.close()
  }

  /** The root of the tree. */
  async root(): Promise<TreeNode> {
    const [root] = await this.#inspect('', ['.'])
    if (root === undefined) throw new LimitError('the root of the tree', 0, 'entries')
    return { ...root, path: '' }
  }

  /** What `path` names, without following any symlink; undefined when it is not there. */
  async node(path: ByteString): Promise<TreeNode | undefined> {
    const cut = path.lastIndexOf('/')
    const [found] = await this.#inspect(cut === -1 ? '' : path.slice(0, cut), [path.slice(cut + 1)])
    return found
  }

  /** What is in a directory, sorted; nothing when the directory has gone away. */
  async children(path: ByteString): Promise<readonly TreeNode[]> {
    const names = (await this.#names(path)).sort(byBytes)
    const nodes: TreeNode[] = []
    for (let at = 0; at < names.length; at += namesAtOnce) {
      nodes.push(...(await this.#inspect(path, names.slice(at, at + namesAtOnce))))
    }
    return nodes
  }

  async #names(path: ByteString): Promise<ByteString[]> {
    const listing = 200
    const opened = openDirectory(path)
    const names: ByteString[] = []
    let head: readonly Call[] = [opened, dup3(opened, listing, O.CLOEXEC), close(opened)]
    for (;;) {
      const lists = [out(listSize), out(listSize)]
      const reads = lists.map((list) => getdents64(listing, list))
      const results = await this.#runUnlessGone([...head, ...reads])
      if (results === undefined) return []
      head = []
      lists.forEach((list, index) => {
        names.push(...decodeNames(results.bytes(list).subarray(0, results.value(reads[index] as Call))))
      })
      if (names.length > maxNames) throw new LimitError(`directory ${bytesToText(path)}`, maxNames, 'names')
      if (reads.some((read) => results.value(read) === 0)) break
    }
    await this.process.run([close(listing)])
    return names
  }

  async #inspect(directory: ByteString, names: readonly ByteString[]): Promise<TreeNode[]> {
    const asked = names.map((base) => {
      const place = placeIn(directory, base)
      const stat = out(statxSize)
      return { base, place, stat, call: statOf(place, stat) }
    })
    const results = await this.#runUnlessGone([...enterDirectory(directory), ...asked.map(({ call }) => call)])
    if (results === undefined) return []
    const found = asked.flatMap(({ base, place, stat, call }) =>
      succeeded(call, results.value(call)) ? [{ base, place, stat: decodeStatx(results.bytes(stat)) }] : [],
    )
    const places = found.map(({ place }) => place)
    const xattrs = await readXattrs((calls) => this.#runUnlessGone([...enterDirectory(directory), ...calls]), places)
    const targets = await this.#targets(directory, found)
    return found.flatMap(({ base, place, stat }) => {
      const attributes = xattrs.get(place)
      const target = stat.type === 'symlink' ? targets.get(base) : noTarget
      if (attributes === undefined || target === undefined) return []
      return [{ ...stat, path: directory === '' ? base : `${directory}/${base}`, target, xattrs: attributes }]
    })
  }

  async #targets(
    directory: ByteString,
    found: readonly { readonly base: ByteString; readonly stat: NodeStat }[],
  ): Promise<ReadonlyMap<ByteString, Buffer>> {
    const targets = new Map<ByteString, Buffer>()
    const links = found.filter(({ stat }) => stat.type === 'symlink')
    const atOnce = Math.floor(this.process.capacity / 2 / (targetSize + 512))
    for (let at = 0; at < links.length; at += atOnce) {
      const asked = links.slice(at, at + atOnce).map(({ base }) => {
        const to: Out = out(targetSize)
        return { base, to, call: targetOf(placeIn(directory, base), to) }
      })
      const results = await this.#runUnlessGone([...enterDirectory(directory), ...asked.map(({ call }) => call)])
      if (results === undefined) break
      for (const { base, to, call } of asked) {
        const size = results.value(call)
        // No symlink any more: something else has taken its place.
        if (errnoName(-size) !== 'EINVAL' && succeeded(call, size)) {
          targets.set(base, Buffer.from(results.bytes(to).subarray(0, size)))
        }
      }
    }
    return targets
  }

  /** Undefined when the directory that is entered first has gone away. */
  async #runUnlessGone(calls: readonly Call[]): Promise<Results | undefined> {
    try {
      return await this.process.run(calls)
    } catch (error) {
      if (isGone(error)) return undefined
      throw error
    }
  }
}

/** What a name that was there a moment ago may fail with: it has gone, or something else has taken its place. */
const gone: ReadonlySet<string> = new Set(['ENOENT', 'ENOTDIR', 'ELOOP'])

function isGone(error: unknown): boolean {
  return error instanceof Error && 'errnoName' in error && gone.has(String(error.errnoName))
}

/** Whether a tolerated call succeeded; not when its name has gone away. @throws SyscallError for other failures. */
export function succeeded(call: Call, result: number): boolean {
  if (result >= 0) return true
  if (gone.has(errnoName(-result))) return false
  throw syscallError(call, -result)
}

/** Orders names by their bytes. */
export function byBytes(a: ByteString, b: ByteString): number {
  return a < b ? -1 : a > b ? 1 : 0
}
