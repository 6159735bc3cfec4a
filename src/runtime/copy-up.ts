import { type Call, type CallOptions, out } from '../linux/call.ts'
import {
  AT_EMPTY_PATH,
  AT_SYMLINK_NOFOLLOW,
  close,
  fchmodat,
  fchownat,
  getdents64,
  makeDevice,
  mkdirat,
  mknodat,
  O,
  O_DIRECTORY,
  O_NOFOLLOW,
  openat2,
  RESOLVE,
  readlinkat,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  sendfile,
  statx,
  symlinkat,
  utimensat,
} from '../linux/calls/files.ts'
import type { CallRunner, Results } from '../linux/runner.ts'
import { statxSize } from './examine.ts'

/** STATX_BASIC_STATS. */
const basic = 0x7ff
const listingSize = 32_768
const pathMax = 4096
/** Entries that are looked at, or copied, in one batch. */
const inBatch = 64
/** Most that sendfile(2) moves at once. */
const longestCopy = 0x7fff_f000

/** What statx(2) says of a file. */
interface FileStatus {
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly size: number
  readonly device: number
  readonly modified: { readonly seconds: number; readonly nanoseconds: number }
}

interface Entry {
  /** Relative to the directory that is copied. */
  readonly path: string
  readonly status: FileStatus
}

/**
 * Copies what is in one directory to another, each open as a descriptor of the process that makes the calls: with owner,
 * mode and time. Neither is left on the way, whatever symlinks there are.
 * @param keepMode whether the directory itself keeps its mode
 * @throws SyscallError, ENOSPC for one when the target is too small.
 */
export async function copyUp(
  runner: CallRunner,
  source: number,
  target: number,
  why: CallOptions,
  keepMode: boolean,
): Promise<void> {
  const copy = new CopyUp(runner, source, target, why)
  const top = out(statxSize)
  const found = await runner.run([statx(source, '', AT_EMPTY_PATH, basic, top, why)])
  const status = statusOf(found.bytes(top))
  const entry = { path: '.', status: keepMode ? { ...status, mode: 0 } : status }
  await copy.directory(entry)
}

class CopyUp {
  private readonly runner: CallRunner
  private readonly source: number
  private readonly target: number
  private readonly why: CallOptions

  constructor(runner: CallRunner, source: number, target: number, why: CallOptions) {
    this.runner = runner
    this.source = source
    this.target = target
    this.why = why
  }

  /** Copies the content of a directory that is there, and gives it its owner and mode then. */
  async directory(entry: Entry): Promise<void> {
    const names = await this.names(entry.path)
    for (let at = 0; at < names.length; at += inBatch) {
      const entries = await this.look(entry.path, names.slice(at, at + inBatch))
      const links = await this.links(entries)
      const calls = entries.flatMap((each) => this.copied(each, links.get(each) ?? ''))
      if (calls.length > 0) await this.runner.run(calls)
      for (const each of entries) if ((each.status.mode & S_IFMT) === S_IFDIR) await this.directory(each)
    }
    await this.runner.run(this.finished(entry))
  }

  private async names(path: string): Promise<readonly string[]> {
    const opened = this.open(this.source, path, O.RDONLY | O_DIRECTORY)
    const fd = (await this.runner.run([opened])).value(opened)
    const names: string[] = []
    for (;;) {
      const listing = out(listingSize)
      const read = getdents64(fd, listing, this.why)
      const results = await this.runner.run([read])
      const size = results.value(read)
      if (size === 0) break
      names.push(...namesOf(results.bytes(listing).subarray(0, size)))
    }
    await this.runner.run([close(fd, this.why)])
    return names
  }

  private async look(directory: string, names: readonly string[]): Promise<readonly Entry[]> {
    const opened = this.open(this.source, directory, O.PATH | O_DIRECTORY)
    const stats = names.map((name) => ({ name, status: out(statxSize) }))
    const looks = stats.map(({ name, status }) => statx(opened, name, AT_SYMLINK_NOFOLLOW, basic, status, this.why))
    const results = await this.runner.run([opened, ...looks, close(opened)])
    return stats.map(({ name, status }) => ({ path: `${directory}/${name}`, status: statusOf(results.bytes(status)) }))
  }

  /** Where the symlinks among `entries` lead. */
  private async links(entries: readonly Entry[]): Promise<ReadonlyMap<Entry, string>> {
    const links = entries
      .filter(({ status }) => (status.mode & S_IFMT) === S_IFLNK)
      .map((entry) => {
        const node = this.open(this.source, entry.path, O.PATH | O_NOFOLLOW)
        const text = out(pathMax)
        return { entry, node, text, read: readlinkat(node, '', text, this.why) }
      })
    if (links.length === 0) return new Map()
    const results = await this.runner.run(links.flatMap(({ node, read }) => [node, read, close(node)]))
    return new Map(links.map(({ entry, text, read }) => [entry, linkOf(results, text, read)]))
  }

  /** Makes what an entry is; of a directory only that it is there. */
  private copied(entry: Entry, link: string): readonly Call[] {
    const { status } = entry
    const { parent, name } = this.place(entry)
    // What a later mount is on may be there.
    const made = { ...this.why, tolerate: 'EEXIST' }
    const inParent = (make: Call): readonly Call[] => [parent, make, close(parent)]
    switch (status.mode & S_IFMT) {
      case S_IFDIR:
        return inParent(mkdirat(parent, name, 0o700, made))
      case S_IFSOCK:
        return []
      case S_IFLNK:
        return [...inParent(symlinkat(link, parent, name, made)), ...this.finished(entry)]
      case S_IFREG:
        return [...this.file(entry), ...this.finished(entry)]
      default: {
        // A user namespace has no right to make devices.
        const node = mknodat(parent, name, status.mode, status.device, { ...this.why, tolerate: 'EPERM' })
        return inParent(node)
      }
    }
  }

  private file({ path, status }: Entry): readonly Call[] {
    const from = this.open(this.source, path, O.RDONLY | O.NONBLOCK | O_NOFOLLOW)
    const to = this.open(this.target, path, O.WRONLY | O.CREAT | O.TRUNC, 0o600)
    // One more: after the end it copies nothing, and where there was no room for all it says so.
    const copies = Array.from({ length: Math.ceil(status.size / longestCopy) + 1 }, () =>
      sendfile(to, from, longestCopy, this.why),
    )
    return [from, to, ...copies, close(from), close(to)]
  }

  /** Owner, then mode, which a change of owner may cut; then the time, which all that changes. */
  private finished(entry: Entry): readonly Call[] {
    const { mode, uid, gid, modified } = entry.status
    const { parent, name } = this.place(entry)
    const noFollow = AT_SYMLINK_NOFOLLOW
    return [
      parent,
      // An owner that a user namespace does not map can't be given.
      fchownat(parent, name, uid, gid, noFollow, { ...this.why, tolerate: 'any' }),
      ...((mode & S_IFMT) === S_IFLNK || mode === 0 ? [] : [fchmodat(parent, name, mode & 0o7777, this.why)]),
      utimensat(parent, name, modified, modified, noFollow, this.why),
      close(parent),
    ]
  }

  /** The directory of the target that an entry is in, and its name there. */
  private place({ path }: Entry): { readonly parent: Call; readonly name: string } {
    const slash = path.lastIndexOf('/')
    const parent = this.open(this.target, slash < 0 ? '.' : path.slice(0, slash), O.PATH | O_DIRECTORY)
    return { parent, name: path.slice(slash + 1) }
  }

  private open(directory: number, path: string, flags: number, mode = 0): Call {
    const resolve = RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS | RESOLVE.NO_MAGICLINKS
    // With O_PATH and O_NOFOLLOW a symlink is opened itself, which NO_SYMLINKS would refuse.
    const ofNode = (flags & O.PATH) !== 0 && (flags & O_NOFOLLOW) !== 0
    return openat2(directory, path, { flags, mode, resolve: ofNode ? RESOLVE.BENEATH : resolve }, this.why)
  }
}

function linkOf(results: Results, text: ReturnType<typeof out>, read: Call): string {
  return results.bytes(text).toString('utf8', 0, results.value(read))
}

/** Names in what getdents64(2) wrote, without the directory itself and the one above. */
function namesOf(listing: Buffer): readonly string[] {
  const names: string[] = []
  for (let at = 0; at + 19 <= listing.length; ) {
    const size = listing.readUInt16LE(at + 16)
    const name = listing.toString('utf8', at + 19, listing.indexOf(0, at + 19))
    if (name !== '.' && name !== '..') names.push(name)
    at += size
  }
  return names
}

function statusOf(statx: Buffer): FileStatus {
  return {
    mode: statx.readUInt16LE(28),
    uid: statx.readUInt32LE(20),
    gid: statx.readUInt32LE(24),
    size: Number(statx.readBigUInt64LE(40)),
    device: makeDevice(statx.readUInt32LE(128), statx.readUInt32LE(132)),
    modified: { seconds: Number(statx.readBigInt64LE(112)), nanoseconds: statx.readUInt32LE(120) },
  }
}
